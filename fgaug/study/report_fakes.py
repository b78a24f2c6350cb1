"""What banks keep of their fakes, for a run's report; nothing is computed but quantiles.

bank -> [report_fakes] -> report
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from fgaug.bank import Bank, open_bank
from fgaug.bank.scores import SCORERS, all_scores, scorers_of
from fgaug.data import Dataset, open_dataset
from fgaug.errors import FgaugError
from fgaug.quality.kept import Kept
from fgaug.report.fakes import KnownFakes
from fgaug.study.bank_quality import kept_of
from fgaug.study.bank_reals import quantiles_of
from fgaug.study.quality_files import pairs_of
from fgaug.study.report_sheets import banks_of

LEVEL = 0.95


def known_fakes(
    space: Mapping[str, Any], rows: pd.DataFrame
) -> tuple[tuple[KnownFakes, ...], str]:
    """Return what each bank of a grid keeps of its fakes, at the run's psis; or why nothing."""
    psis = sorted(pd.to_numeric(rows["psi"]).dropna().unique())
    if not psis:
        return (), "no arm uses fakes"
    found: list[KnownFakes] = []
    reasons: list[str] = []
    for number, (name, uri) in enumerate(banks_of(space), start=1):
        try:
            dataset = open_dataset(space["dataset"])
            found.append(_known(name, str(uri), dataset, psis, number))
        except (FgaugError, OSError) as error:
            reasons.append(str(error).rstrip("."))
    return tuple(found), "; ".join(reasons) or "the grid names no bank"


def _known(
    name: str, uri: str, dataset: Dataset, psis: Sequence[float], number: int
) -> KnownFakes:
    bank = open_bank(uri)
    scores, kept = scores_of(bank, psis), _newest(bank, dataset, psis)
    command = f"{bank.store.place()} --dataset {dataset.root}"
    return KnownFakes(
        name=name,
        kept=kept,
        no_kept=f"The bank has not been measured: run `fgaug bank quality {command}`.",
        scores=scores,
        no_scores=f"The bank has no scores: run `fgaug bank score {command}`.",
        pairs=None if kept is None else pairs_of(bank, dataset, kept, number),
    )


def _newest(bank: Bank, dataset: Dataset, psis: Sequence[float]) -> Kept | None:
    """Return the newest measurements against a dataset, of the run's psis alone."""
    known = kept_of(bank.store, dataset.spec.digest)
    if not known:
        return None
    newest = max(known, key=lambda each: str(each.head["measured_at"]))
    tables = {
        table: [row for row in rows if "psi" not in row or row["psi"] in psis]
        for table, rows in newest.tables.items()
    }
    return Kept(head=newest.head, tables=tables) if tables["sets"] else None


def scores_of(bank: Bank, psis: Sequence[float]) -> pd.DataFrame | None:
    """Return the scores of a bank's fakes, a row a (label, psi); None where it has none.

    Columns: n; of numbers `<score>_q05` and so on; of truths their share with Wilson's interval
    `_low` and `_high`. Of several scorers of one name the first is taken.
    """
    whole: pd.DataFrame | None = None
    for name in SCORERS:
        scorer = next((each for each in scorers_of(bank.store) if each.name == name), None)
        if scorer is None:
            continue
        scores = all_scores(bank.store, scorer)
        told = pd.DataFrame(
            {"label": label, "psi": psi, "n": len(part), **_summary(part)}
            for (label, psi), part in scores[scores["psi"].isin(psis)].groupby(["label", "psi"])
        )
        if told.empty:
            continue
        if whole is not None:
            told = told.drop(columns="n")
            whole = whole.merge(told, how="outer", on=["label", "psi"])
        else:
            whole = told
    return whole


def _summary(part: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in part.columns.drop(["label", "psi", "z_seed"]):
        values = part[name]
        if values.dtype == bool:
            test = binomtest(int(values.sum()), len(values))
            ends = test.proportion_ci(LEVEL, "wilson")
            row |= {name: values.mean(), f"{name}_low": ends.low, f"{name}_high": ends.high}
        elif pd.api.types.is_numeric_dtype(values):
            row |= quantiles_of(str(name), values.to_numpy(float))
    return row
