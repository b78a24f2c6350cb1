"""Analysis: from the results of a run to conclusions.

`findings` compares arms and reaches verdicts; `compare` compares two sides, trials of a run or
prediction files; `power` computes what a study can show before it runs; `report` writes the page
with its tables and figures; `published` re-analyses the two source studies.
"""
