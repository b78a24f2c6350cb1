"""Report: the rows of a run as tables, figures and one self-contained page.  results -> report"""
