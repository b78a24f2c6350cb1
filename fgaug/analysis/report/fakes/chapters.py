"""Chapters about the fakes; none in a run without fakes.

All results come from what `fgaug bank score` and `fgaug bank quality` stored in the bank; without
any, the chapter names the command to run.
"""

from __future__ import annotations

from collections.abc import Callable

from fgaug.analysis.report.fakes.copies import copy_parts
from fgaug.analysis.report.fakes.predictors import predictor_parts
from fgaug.analysis.report.fakes.scores import score_parts
from fgaug.analysis.report.fakes.sets import KnownFakes, measure_parts
from fgaug.analysis.report.fakes.strata import print_parts
from fgaug.analysis.report.material import Material
from fgaug.analysis.report.parts import Part, Text
from fgaug.grid.cells import FAKE_MODES

Chapter = tuple[str, str, list[Part]]  # key, title, parts


def fake_chapters(material: Material) -> tuple[Chapter, ...]:
    """Return the chapters about fakes: scores, sets, copies, fingerprints, predictors."""
    if not material.arms["mode"].isin(FAKE_MODES).any():
        return ()
    return (
        ("scores", "Scores of individual fakes", _of_banks(material, _scores)),
        ("measures", "Sets of fakes compared with reals", _of_banks(material, _measures)),
        ("copies", "Copies of training images", _of_banks(material, _copies)),
        ("prints", "Fingerprint and coverage of the fakes", _of_banks(material, _prints)),
        ("predictors", "Measures associated with the gain", predictor_parts(material)),
    )


def _of_banks(material: Material, parts_of: Callable[[KnownFakes, int], list[Part]]) -> list[Part]:
    if not material.fakes:
        return [Text(text=f"No information about the fakes: {material.no_fakes}.")]
    parts: list[Part] = []
    for number, fakes in enumerate(material.fakes, start=1):
        if len(material.fakes) > 1:
            parts.append(Text(text=fakes.name, kind="heading"))
        parts += parts_of(fakes, number)
    return parts


def _scores(fakes: KnownFakes, number: int) -> list[Part]:
    if fakes.scores is None:
        return [Text(text=fakes.no_scores)]
    return score_parts(fakes.scores, fakes.kept, number)


def _measures(fakes: KnownFakes, number: int) -> list[Part]:
    return [Text(text=fakes.no_kept)] if fakes.kept is None else measure_parts(fakes.kept, number)


def _copies(fakes: KnownFakes, number: int) -> list[Part]:
    if fakes.kept is None:
        return [Text(text=fakes.no_kept)]
    pairs = [] if fakes.pairs is None else [fakes.pairs]
    return [*copy_parts(fakes.kept, number), *pairs]


def _prints(fakes: KnownFakes, number: int) -> list[Part]:
    return [Text(text=fakes.no_kept)] if fakes.kept is None else print_parts(fakes.kept, number)
