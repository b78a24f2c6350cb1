"""Frames of a run -> comparisons and verdicts.  results -> [analysis] -> report, commands"""
