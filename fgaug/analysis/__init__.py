"""Analysis: from the results of a run to what they say.

`findings` compares arms and reaches verdicts; `compare` sets two sides against each other, trials
of a run or files of predictions; `power` says what a study can show before it is run; `report`
writes the page with its tables and figures; `published` analyses the two source studies anew.
"""
