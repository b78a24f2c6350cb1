"""Findings: comparisons of arms, the best arm, response surfaces and verdicts."""
