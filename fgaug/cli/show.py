"""Terminal output of the search commands: plan, closing line, status and results."""

from __future__ import annotations

import datetime
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from fgaug.cli import show_plan
from fgaug.cli.options import output
from fgaug.cli.show_plan import amount_lines
from fgaug.core.paths import without_secrets
from fgaug.core.split_names import in_words
from fgaug.errors import RunError, TrialError, UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from fgaug.grid.axes import Split
    from fgaug.grid.space import JudgeNetwork, Space
    from fgaug.runs.status import Status
    from fgaug.study.fake_needs import FakeNeeds
    from fgaug.study.plan import Plan
    from fgaug.study.resources import Room
    from fgaug.study.run import Run

_SHOWN = ("mode", "psi", "ratio", "seed", "status", "n_real", "n_fake")
_METRICS = ("valid_acc", "valid_auc", "valid_loss")
_LOGS = ("auto", "json", "quiet")


def plan(planned: Plan, room: Room | None = None) -> None:
    """Print the plan of a search: cells, fakes needed and present, disk and estimated time.

    Args:
        planned: the plan to print.
        room: CPUs and GPUs for its trials; None for the whole machine.
    """
    from rich.console import Console

    from fgaug.analysis.format import many
    from fgaug.core import devices
    from fgaug.core.machine import cores
    from fgaug.runs.results import damaged
    from fgaug.study import estimate
    from fgaug.study.estimate import parallel_trials
    from fgaug.study.plan import TRIAL_BYTES

    space, todo = planned.space, planned.todo
    modes = Counter(cell.mode for cell in planned.cells)
    arms = len({cell.arm_id for cell in planned.cells})
    counts = ", ".join(f"{mode} {count}" for mode, count in modes.items())
    say = Console(highlight=False, soft_wrap=True).print
    for line in planned.absent:
        say(line)
    cells = many(len(planned.cells), "cell")
    say(f"grid {space.name}: {cells} in {many(arms, 'arm')} ({counts})")
    if planned.absent:
        say("  finished: unknown without the dataset; the plan assumes none")
    else:
        say(f"  finished: {len(planned.cells) - len(todo)}, to train: {len(todo)}")
        if lost := damaged(planned.run, (cell.cell_id for cell in todo)):
            names = ", ".join(lost[:5])
            say(f"  damaged rows among these: {len(lost)} ({names}); a search sets them aside")
    if space.confirmation is not None:
        more = space.confirmation.most_cells(len(space.controls))
        say(
            f"  then a second stage: at most {many(more, 'cell')} on fresh seeds, not counted here"
        )
    spec = planned.dataset.spec
    splits = planned.dataset.manifest["split"].value_counts()
    sides = ", ".join(f"{split} {count}" for split, count in splits.items())
    images = many(len(planned.dataset), "image")
    if space.folds:
        sides = f"{many(len(spec.folds), 'fold')}, each held out once"
    prepared = {name: without_secrets(e.path) for name, e in space.preparations.items()}
    named = [f"{place} ({name})" for name, place in prepared.items()] or [planned.dataset.place]
    say(f"dataset {' and '.join(named)}: {images} of {spec.size} px ({sides})")
    for line in amount_lines(planned.cells, planned.reals):
        say(line)
    for needs in planned.needs:
        source = needs.source
        name = "" if source.snapshot is None else f"snapshot {source.snapshot}, "
        say(
            f"{name}bank {source.store.place()}: {many(needs.demand.count, 'fake')} needed by "
            f"the grid, {needs.present} present, {needs.missing.count} to generate for the "
            "cells to train"
        )
        for (label, psi), z_seeds in needs.missing.wanted.items():
            say(f"  {label} psi {psi:g}: {len(z_seeds)} to generate")
        for line in _of_filters(planned, needs):
            say(line)
        for line in show_plan.lines(planned, needs):
            say(line)
    for choice in planned.precisions:
        say(choice.described)
    size = planned.missing_bytes + len(todo) * TRIAL_BYTES
    trials = many(len(todo), "trial")
    say(f"disk: about {size / 1e6:.0f} MB (fakes in the bank and the cache; {trials})")
    if room is not None and room.address is not None:
        say(f"resources: those of the cluster at {room.address}, known when the search starts")
    if room is not None and not planned.absent and room.misfits(space.resources):
        say("time: no estimate, because the trials do not fit this machine")
    elif todo:
        threads, auto = 1, " (`resources: auto`: adjusted by a measurement at the start)"
        if not isinstance(space.resources, str):
            threads, auto = max(1, min(int(space.resources.cpu), cores())), ""
        try:
            seconds = estimate.trial_seconds(todo, planned.dataset, space.pool, threads)
        except TrialError as error:
            say(f"time: no estimate, because a trial would fail: {error}")
            return
        on = "on this machine with blank images" if planned.absent else "on this machine"
        held = (cores(), devices.visible_gpus()) if room is None else (room.cpus, room.gpus)
        at_once = parallel_trials(space, *held)
        bound = "" if space.budget.unit == "steps" else ", or less if patience stops trials early"
        say(
            f"time: about {duration(seconds / at_once)} for training, "
            f"{many(at_once, 'trial')} at once{auto}{bound} (measured now {on}; excludes "
            "generating fakes and start-up)"
        )


def _of_filters(planned: Plan, needs: FakeNeeds) -> Iterator[str]:
    """Yield each filter's keep rate, the fakes needed from it, and how many must be scored."""
    space, spec = planned.space, planned.dataset.spec
    image_bytes = spec.size**2 * spec.channels
    for kept in needs.keep_rates:
        of = "" if kept.split == "dataset" else f", {in_words(kept.split)}"
        of += "" if kept.round is None else f", round {kept.round}"
        yield f"  filter {kept.filter}{of} keeps {kept.words}; needed: {kept.wanted}"
        if kept.to_score:
            least = "" if kept.scored else "at least "
            size = f"{kept.to_make * image_bytes / 1e6:.1f} MB"
            yield (
                f"    {least}{kept.to_score} more to score, {kept.to_make} of them to generate "
                f"({size})"
            )
    unknown = dict.fromkeys(kept.split for kept in needs.keep_rates if not kept.scored)
    for split in unknown:
        if split in planned.scoring:
            of = "" if split == "dataset" else f" of {in_words(split)}"
            yield f"  unknown until the search has trained the baseline{of} that scores the fakes"
            continue
        yield (
            "  unknown until the search has scored some fakes; to know earlier, generate some and "
            f"run `{_to_score(needs, space, split)}`"
        )


def _to_score(needs: FakeNeeds, space: Space, split: Split) -> str:
    """Return the command that scores the bank with the grid's scorers."""
    place = without_secrets(space.dataset)
    parts = [f"fgaug bank score {needs.source.store.place()} --dataset {place}"]
    parts += [f"--scorer {name}" for name in needs.source.scorers[split]]
    if space.scorers is not None:
        networks = {"features": space.scorers.features, "classifier": space.scorers.classifier}
        parts += [f"--{name} {value}" for name, value in networks.items() if value != "lite0"]
        parts += _of_judge(space.scorers.judge)
    if "discriminator" in needs.source.scorers[split]:
        snapshots = needs.source.generator.snapshots.items()
        parts += [f"--discriminator {label}={each.file}" for label, each in snapshots]
    return " ".join([*parts, *([] if split == "dataset" else [f"--split {split}"])])


def _of_judge(judge: JudgeNetwork | None) -> list[str]:
    """Return the options of `fgaug bank score` that describe a judge."""
    if judge is None:
        return []
    size = [] if judge.size is None else [f"--judge-size {judge.size}"]
    return [
        f"--judge-labels {','.join(judge.labels)}",
        f"--judge-model {judge.model}",
        f"--judge-scaling {judge.scaling}",
        *size,
    ]


def console_for(log: str) -> Console:
    """Return a search's console on stderr, silent unless `log` is auto.

    Raises:
        UserError: `log` is none of auto, json and quiet.
    """
    from rich.console import Console

    if log not in _LOGS:
        raise UserError(f"--log must be {', '.join(_LOGS[:-1])} or {_LOGS[-1]}, got {log}.")
    return Console(stderr=True, quiet=log != "auto")


def closing_line(run: Run, log: str = "auto") -> None:
    """Print the counts of ok, pruned, failed and missing cells as a search's last line."""
    if log == "json":
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        counts = {name: getattr(run, name) for name in ("ok", "pruned", "failed", "missing")}
        closing = {"time": now, "event": "closed", "run": run.place, **counts}
        sys.stderr.write(json.dumps({**closing, "exit_code": run.exit_code}) + "\n")
        return
    parts = (f"{run.ok} ok, {run.pruned} pruned", f"{run.failed} failed, {run.missing} missing")
    line = f"{run.place}: {', '.join(parts)}"
    if run.failed or run.missing:
        line += ". Run the same command again to train the failed and missing cells"
    sys.stderr.write(line + "\n")


def check_status_format(format: str) -> None:
    """Raise UserError if a format of `fgaug status` is unknown."""
    if format not in ("text", "json"):
        raise UserError(f"--format must be text or json, got {format}.")


def status(run: str, format: str) -> None:
    """Print the progress of a run from its files, as text or as one JSON object."""
    from fgaug.runs.status import read

    check_status_format(format)
    found = read(run)
    if format == "json":
        sys.stdout.write(json.dumps(status_value(found), indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(status_lines(found)) + "\n")


def status_value(found: Status) -> dict[str, object]:
    """Return the progress of a run as a JSON value."""
    value = {**asdict(found), "root": found.place}
    del value["uri"]  # may hold credentials
    return value


def counts_of(found: Status) -> str:
    """Return the numbers of cells by status as text."""
    cells = "cell" if found.cells == 1 else "cells"
    return (
        f"{found.done} of {found.cells} {cells} done: {found.ok} ok, {found.pruned} pruned, "
        f"{found.failed} failed; {found.paused} paused, {found.missing} missing"
    )


def status_lines(found: Status) -> list[str]:
    """Return the progress of a run as lines of text."""
    by = "; ".join(found.searches)
    lines = [
        f"run {found.name} ({found.place}): {f'searched by {by}' if by else 'no active search'}",
        f"  {counts_of(found)}",
    ]
    if found.newest_age_s is not None:
        words = "cells an hour" if by else "cells trained in the last hour"
        rate = f"{found.cells_per_h:.3g} {words}"
        lines.append(f"  newest result {duration(found.newest_age_s)} ago, {rate}")
    if found.left_s:
        lines.append(f"  at most {duration(found.left_s)} left at this rate")
    for failure in found.failures:
        words = f"{failure.cell} ({failure.cell_id}), {duration(failure.age_s)} ago"
        lines.append(f"  failed: {words}: {failure.error}")
        lines += [] if failure.traceback is None else [f"    traceback: {failure.traceback}"]
    return lines


def results(run: str, by: str, format: str) -> None:
    """Print the results of a run, one row per trial, per arm, or per arm and seed (folds)."""
    from fgaug.analysis.findings.folds import folds_of
    from fgaug.analysis.report.arm_summary import by_arm
    from fgaug.runs.results import load_results, typed

    if by not in ("cell", "seed", "arm"):
        raise UserError(f"--by must be cell, seed or arm, got {by}.")
    frame = load_results(run)
    if frame.empty:
        raise RunError(f"{run} has no finished trial yet. Run `fgaug search` first.")
    if by == "seed" and not folds_of(frame):
        raise UserError(f"--by seed pools the folds of a seed, but {run} has none. Use --by cell.")
    if by != "cell" and folds_of(frame):
        from fgaug.analysis.findings.evidence import load_evidence

        evidence = load_evidence(run)
        frame = evidence.rows
        _note_missing_folds(run, len(frame), evidence.missing)
    frame = by_arm(frame) if by == "arm" else frame
    if format == "csv":
        frame.to_csv(sys.stdout, index=False)
    elif format == "json":
        frame.to_json(sys.stdout, orient="records", indent=1)
        sys.stdout.write("\n")
    elif format == "parquet":
        if sys.stdout.isatty():
            raise UserError(
                "--format parquet is binary. Redirect it to a file: `> results.parquet`."
            )
        import pyarrow.parquet as pq

        pq.write_table(typed(frame), sys.stdout.buffer)
    elif format == "table":
        shown = {"cell": _cell_columns, "seed": _seed_columns, "arm": _arm_columns}
        _print_table(shown[by](frame))
    else:
        raise UserError(f"--format must be table, csv, json or parquet, got {format}.")


def _note_missing_folds(run: str, complete: int, missing: pd.DataFrame) -> None:
    """Print how many seeds are left out because folds are not trained yet.

    Args:
        run: the run's folder or URI.
        complete: number of pooled runs, one per arm and seed.
        missing: the others, as `Evidence.missing`.

    Raises:
        RunError: no seed has all of its folds.
    """
    cure = "`--by cell` lists the finished cells; the same search trains the others."
    if not complete:
        raise RunError(f"{run}: no seed of any arm has finished all of its folds yet. {cure}")
    if lacking := int(missing["arm_id"].notna().sum()):
        sys.stderr.write(
            f"Left out: {lacking} of {complete + lacking} seeds (over all arms), because not all "
            f"of their folds are trained. {cure}\n"
        )


def _cell_columns(frame: pd.DataFrame) -> pd.DataFrame:
    names = list(frame.columns)
    further = names[names.index("round") : names.index("status")][1:]
    chosen = ["filter"] if _filtered(frame) else []
    seed = ["seed", *(["round"] if frame["round"].notna().any() else [])]
    return frame[[*_SHOWN[:3], *chosen, *further, *seed, *_SHOWN[4:], *_METRICS]]


def _seed_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of pooled runs: AUC, its interval, and the AUC of each fold."""
    from fgaug.analysis.findings.folds import HIGH, LOW, OF_FOLD

    own = [*_cell_columns(frame).drop(columns=["split", "valid_loss"], errors="ignore")]
    folds = [str(name) for name in frame if str(name).startswith(OF_FOLD)]
    further = {LOW: "low", HIGH: "high"} | {name: name.removeprefix(OF_FOLD) for name in folds}
    known = {name: short for name, short in further.items() if name in frame}
    words = {name: f"fold {short}" if name in folds else short for name, short in known.items()}
    return frame[[*own, *known]].rename(columns=words)


def _filtered(frame: pd.DataFrame) -> bool:
    return bool(frame["filter"].dropna().ne("none").any())


def _arm_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of arms for a terminal, mean ± population sd in one column."""
    hidden = ["arm_id", "note", *([] if _filtered(frame) else ["filter"])]
    hidden += [] if frame["round"].notna().any() else ["round"]
    kept = [n for n in frame if n not in hidden and not str(n).startswith(("n_fake_", "valid_"))]
    shown = frame[kept].copy()
    scores = {"acc": "acc", "auc": "auc", "f1": "f1_macro", "specificity": "specificity_macro"}
    for head, name in scores.items():
        shown[head] = [
            "" if mean != mean else f"{mean:.3f}" if sd != sd else f"{mean:.3f} ± {sd:.3f}"
            for mean, sd in zip(
                frame[f"valid_{name}_mean"], frame[f"valid_{name}_sd"], strict=True
            )
        ]
    shown["loss"] = frame["valid_loss_mean"]
    empty = [n for n in ("failed", "pruned") if n in shown and not shown[n].any()]
    return shown.drop(columns=empty)


def _print_table(frame: pd.DataFrame) -> None:
    from rich.table import Table

    table = Table()
    for name in frame.columns:
        table.add_column(str(name), justify="left" if name in ("mode", "status") else "right")
    for values in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in values))
    output().print(table)


def _cell(value: object) -> str:
    import pandas as pd

    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if value.is_integer() else f"{value:.3f}".rstrip("0")
    return str(value)


def duration(seconds: float) -> str:
    """Return a duration as text: 80 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
