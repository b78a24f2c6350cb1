"""Selectors: from `RUN:ARM#SEED@ROUND` to trials of a run.

A selector may name an arm, a seed, a round, `baseline` or `best`; `best` is selected on
validation images only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fgaug.analysis.findings.evidence import load_evidence
from fgaug.analysis.findings.folds import folds_of
from fgaug.core.analysis_metrics import LOWER_IS_BETTER, METRICS
from fgaug.errors import RunError, UserError
from fgaug.grid.arm_names import arm_name, further_axes
from fgaug.grid.cells import CONTROLS, MODES
from fgaug.runs import results
from fgaug.runs.place import is_uri, run_at
from fgaug.runs.preregistration import planned_metric
from fgaug.runs.results import last_rounds, screened

NOT_NEW = ("baseline", *CONTROLS)  # modes without fakes: never the best arm
SHOWN = 12  # arms listed in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedTrials:
    """Some trials of one arm of a run."""

    run: Path
    rows: pd.DataFrame  # of the run, one per trial
    chosen: pd.DataFrame  # of the arm or trial, including failed and pruned ones
    number: int | None  # of the round; None: the last
    among: int  # number of arms out of which it was selected as the best
    planned: str  # primary metric: the requested one, or that of the run's plan

    @property
    def arm_id(self) -> str:
        return str(self.chosen["arm_id"].iloc[0])


def pick(text: str, number: int | None, metric: str | None) -> SelectedTrials:
    """Return the trials selected by RUN, RUN:CELL, RUN:ARM, RUN:best or RUN:MODE.

    Args:
        text: the selector; `#7` at its end selects the arm's trial with seed 7.
        number: the round; by default the last.
        metric: the metric that selects `best`; by default that of the run's plan.

    Raises:
        UserError: the run, arm, trial, seed or round does not exist or is ambiguous; it lists
            the candidates.
    """
    run, selector = Path(text), ""
    if not run.is_dir():
        run, selector = _split(text)
    selector, seed = _split_seed(selector)
    planned = metric or planned_metric(run)
    every = results.load_results(run)
    rows = last_rounds(every)
    if rows.empty:
        raise RunError(f"{run} has no finished trial yet; run `fgaug search` first.")
    judged = rows
    if number is not None and selector == "best":
        judged = in_round(str(run), every, number)
    chosen, among = _chosen(run, judged, selector, planned)
    if seed is not None:
        chosen = _of_seed(text, chosen, seed)
    if number is not None:
        chosen = of_round(text, every, rows[rows["cell_id"].isin(chosen["cell_id"])], number)
    return SelectedTrials(
        run=run, rows=rows, chosen=chosen, number=number, among=among, planned=planned
    )


def _split_seed(selector: str) -> tuple[str, int | None]:
    """Return the text before `#` and the seed after it, or None without a seed."""
    head, mark, tail = selector.rpartition("#")
    if not mark:
        return selector, None
    if not (tail.isascii() and tail.isdecimal()):
        raise UserError(f"a seed after # must be a whole number, got {tail!r} in {selector!r}.")
    return head, int(tail)


def _of_seed(name: str, chosen: pd.DataFrame, seed: int) -> pd.DataFrame:
    found = chosen[chosen["seed"].eq(seed)]
    if found.empty:
        known = ", ".join(str(int(each)) for each in sorted(chosen["seed"].unique()))
        raise UserError(f"{name}: no trial of that arm has seed {seed}; its seeds are {known}.")
    return found


def _split(text: str) -> tuple[Path, str]:
    """Return run and selector of `RUN:SELECTOR`; the path of a run may contain colons."""
    if is_uri(text):
        scheme, _, rest = text.partition("://")
        head, _, tail = rest.partition(":")
        return run_at(f"{scheme}://{head}").root, tail
    head, colon, tail = text.rpartition(":")
    while colon:
        if Path(head).is_dir() and tail:
            return Path(head), tail
        if Path(head).is_file():
            raise UserError(f"{head} is a file: it takes no selector after a colon, got :{tail}.")
        head, colon, more = head.rpartition(":")
        tail = f"{more}:{tail}"
    raise UserError(
        f"{text}: no such run or file. Give RUN:CELL, RUN:ARM, RUN:best, RUN:baseline, or a CSV "
        "or Parquet file of predictions; append @5 for its round 5."
    )


def arm_words(rows: pd.DataFrame, arm_id: str) -> str:
    """Return the name of an arm in words, with its id."""
    first = rows[rows["arm_id"].eq(arm_id)].iloc[0]
    arm = {str(name): value for name, value in first.items() if name != "round"}
    return f"{arm_name(arm, further_axes(rows))} (arm {arm_id})"


def _chosen(run: Path, rows: pd.DataFrame, selector: str, metric: str) -> tuple[pd.DataFrame, int]:
    """Return the selected rows, and the number of arms out of which they were selected as best."""
    if not selector:
        if rows["cell_id"].nunique() == 1:
            return rows, 1
        raise UserError(f"{run} has {len(rows)} trials: name one. {_arms_of(run, rows)}")
    if selector == "best":
        return _best(run, rows, metric)
    if selector in MODES:
        same = rows[rows["mode"].eq(selector)]
        if same["arm_id"].nunique() == 1:
            return same, 1
        count = same["arm_id"].nunique()
        raise UserError(
            f"{run}: `{selector}` must name one arm, but {count} have that mode. "
            f"{_arms_of(run, same if count else rows)}"
        )
    exact = rows[rows["cell_id"].eq(selector) | rows["arm_id"].eq(selector)]
    if len(exact):
        return exact, 1
    arms = rows[rows["arm_id"].astype(str).str.startswith(selector)]
    cells = rows[rows["cell_id"].astype(str).str.startswith(selector)]
    found = arms["arm_id"].nunique() + cells["cell_id"].nunique()
    if found == 1:
        return (arms if len(arms) else cells), 1
    which = f"{found} arms and trials begin with it" if found else "none matches"
    raise UserError(
        f"{run}: `{selector}` must be an arm_id, a cell_id or the first digits of one; {which}. "
        f"{_arms_of(run, rows)}"
    )


def _best(run: Path, rows: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, int]:
    """Return the rows of the arm with fakes and the best mean, and the number of candidates."""
    judged = load_evidence(run).rows if folds_of(rows) else rows  # folds are pooled first
    usable = judged[judged["status"].eq("ok") & ~judged["mode"].isin(NOT_NEW) & screened(judged)]
    means = METRICS[metric].values(usable).groupby(usable["arm_id"]).mean().dropna()
    if means.empty:
        raise UserError(
            f"{run}: no arm with fakes has a value of {metric} yet. Name an arm instead."
        )
    best = str(means.idxmin() if metric in LOWER_IS_BETTER else means.idxmax())
    return rows[rows["arm_id"].eq(best)], len(means)


def _arms_of(run: Path, rows: pd.DataFrame) -> str:
    """Return a list of a run's arms, in the form of selectors."""
    names = list(dict.fromkeys(map(str, rows["arm_id"])))
    seeds = rows.groupby("arm_id")["seed"].nunique()
    lines = [f"  {run}:{name}  {arm_words(rows, name)}, {seeds[name]} seeds" for name in names]
    more = [f"  and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return "\n".join(["Its arms:", *lines[:SHOWN], *more])


def split_round(text: str) -> tuple[str, int | None]:
    """Return the text before `@` and the round after it, or None without a round."""
    head, at, tail = text.rpartition("@")
    if not at or not tail.isascii() or not tail.isdecimal() or Path(text).exists():
        return text, None
    return head, int(tail)


def of_round(name: str, every: pd.DataFrame, chosen: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return the rows of one round of some cells; a cell without it keeps its own row.

    Args:
        name: the name of the cells in messages.
        every: all rows of the run.
        chosen: the rows of the cells, one per cell.
        number: the round.

    Raises:
        UserError: as `in_round`.
    """
    mine = every[every["cell_id"].isin(chosen["cell_id"])]
    found = in_round(name, mine, number)
    without = chosen[~chosen["cell_id"].isin(found["cell_id"])]
    return every.loc[[*found.index, *without.index]]


def in_round(name: str, rows: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return the rows of one round.

    Raises:
        UserError: the round does not exist; it lists the rounds.
    """
    found = rows[rows["round"].eq(number)]
    if found.empty:
        raise UserError(no_such_round(name, rows["round"], number))
    return found


def no_such_round(name: str, rounds: pd.Series[float], number: int) -> str:
    """Return the message for a missing round, with a list of the rounds."""
    known = sorted({int(each) for each in rounds.dropna()})
    if not known:
        return f"{name} has no rounds: leave out @{number}."
    listed = ", ".join(map(str, known))
    return f"{name} has no round {number}. It has {listed}: give one of these after @."
