"""Compare: two sides on the same images, trials of a run or files of predictions."""
