"""Frames of a run -> comparisons and verdicts.  results -> [analysis] -> report, commands"""

from __future__ import annotations

from fgaug.analysis.evidence import Evidence, load_evidence
from fgaug.analysis.findings import Analysis, analyse

__all__ = ["Analysis", "Evidence", "analyse", "load_evidence"]
