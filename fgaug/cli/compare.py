"""`fgaug compare`: compare two models, two recipes or published counts; describe one model."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgaug.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from fgaug.analysis.compare.one_model import OneModel
    from fgaug.analysis.compare.published_margins import Margins
    from fgaug.analysis.compare.two_arms import TwoArms
    from fgaug.analysis.compare.two_models import TwoModels

FORMATS = ("table", "csv", "json")
WAYS = (
    "Give exactly one input: A, or A and B, or --truth with --a (and --b), or --counts, or "
    "--margins"
)


def compare(
    a: Annotated[
        str | None,
        typer.Argument(
            help="RUN:CELL, RUN:ARM, RUN:best, RUN:baseline, a RUN with one trial, or a CSV or "
            "Parquet file of predictions. Append #7 for seed 7 only, @5 for round 5."
        ),
    ] = None,
    b: Annotated[
        str | None,
        typer.Argument(help="Like A; differences are A minus B. Omit it to describe A alone."),
    ] = None,
    counts: Annotated[
        str | None,
        typer.Option("--counts", help="Image counts: both right,only A,only B,neither."),
    ] = None,
    margins: Annotated[
        str | None,
        typer.Option("--margins", help="Correct/images of A,B, as 270/300,246/300: bounds p."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", help="File with one 0 or 1 per line, for --a (and --b)."),
    ] = None,
    file_a: Annotated[
        Path | None, typer.Option("--a", help="A's predictions: a label or probability per line.")
    ] = None,
    file_b: Annotated[Path | None, typer.Option("--b", help="B's, likewise.")] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="Primary metric (default: the plan's, else auc)."),
    ] = None,
    open_test: Annotated[
        bool,
        typer.Option("--open-test", help="Use the sealed test set; counts as a look."),
    ] = False,
    format: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
) -> None:
    """Compare two trained models (level E0) or, with several seeds each, two recipes (E2).

    For a single model, print its counts, precision, recall, specificity and F1. Both sides must
    predict the same images: a run's validation set or, with --open-test, its test set.
    """
    from fgaug.cli import compare_tables

    if format not in FORMATS:
        raise UserError(f"--format must be table, csv or json, got {format}.")
    if open_test and a is None:
        raise UserError("--open-test needs a run: give one as A or B.")
    found = _found(a, b, counts, margins, (truth, file_a, file_b), metric, open_test)
    if format == "json":
        sys.stdout.write(json.dumps(_plain(found), indent=1, ensure_ascii=False) + "\n")
    elif format == "csv":
        _csv(found).to_csv(sys.stdout, index=False)
    else:
        compare_tables.show(found)


def _found(
    a: str | None,
    b: str | None,
    counts: str | None,
    margins: str | None,
    lines: tuple[Path | None, Path | None, Path | None],
    metric: str | None,
    open_test: bool,
) -> OneModel | TwoModels | TwoArms | Margins:
    """Return the comparison, or one model's results, from the single kind of input given."""
    from fgaug.analysis.compare.published_margins import margin_bounds
    from fgaug.analysis.compare.two_models import compare_counts

    ways = [any(x is not None for x in way) for way in ((a, b), lines, (counts,), (margins,))]
    if sum(ways) != 1:
        count = "none" if not any(ways) else "several"
        raise UserError(f"{WAYS}; got {count}.")
    if counts is not None:
        import numpy as np

        return compare_counts(np.array(_counts(counts), np.int64).reshape(2, 2))
    if margins is not None:
        return margin_bounds(*_margins(margins))
    from fgaug.analysis.compare import (
        compare as comparison,  # loads torch, which --counts and --margins do not need
    )

    if a is not None and b is not None:
        return comparison.compare(a, b, metric, open_test=open_test)
    if a is not None:
        return comparison.describe(a, metric, open_test=open_test)
    truth, file_a, file_b = lines
    if truth is None or file_a is None:
        raise UserError(
            "--truth needs --a (and optionally --b), and they need --truth; one is missing."
        )
    if file_b is None:
        return comparison.describe_lines(truth, file_a)
    return comparison.compare_lines(truth, file_a, file_b)


def _counts(text: str) -> list[int]:
    if not re.fullmatch(r"\s*\d{1,12}(\s*,\s*\d{1,12}){3}\s*", text, re.ASCII):
        raise UserError(
            f"--counts takes four whole numbers (both right,only A,only B,neither), got {text!r}. "
            "Give for example 231,39,15,15."
        )
    return [int(part) for part in text.split(",")]


def _margins(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(
        r"\s*(\d{1,12})\s*/\s*(\d{1,12})\s*,\s*(\d{1,12})\s*/\s*(\d{1,12})\s*", text, re.ASCII
    )
    if match is None:
        raise UserError(
            f"--margins must be correct/images twice, as 270/300,246/300, got {text!r}."
        )
    right_a, images, right_b, images_b = (int(part) for part in match.groups())
    if images != images_b:
        raise UserError(
            f"--margins: both models need the same images, got {images} and {images_b}."
        )
    return right_a, right_b, images


def _plain(value: Any) -> Any:
    """Convert a result for JSON: frames to lists of rows, NaN and infinity to null."""
    import numpy as np
    import pandas as pd

    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, pd.DataFrame):
        return [_plain(row) for row in value.to_dict(orient="records")]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    unknown = value is pd.NA or (isinstance(value, float) and not np.isfinite(value))
    return None if unknown else value


def _csv(found: OneModel | TwoModels | TwoArms | Margins) -> pd.DataFrame:
    """Return one table with a `part` column naming each row's table; texts are rows as well."""
    import pandas as pd

    from fgaug.analysis.compare.published_margins import Margins
    from fgaug.cli.compare_tables import margin_rows, texts

    parts: dict[str, pd.DataFrame] = {
        "text": pd.DataFrame({"text": "\n".join(texts(found)).splitlines()})
    }
    for name in ("report", "confusion", "summary", "scores", "tests"):
        frame = getattr(found, name, None)
        if frame is not None and len(frame):
            parts[name] = frame
    table = getattr(found, "agreement", None)
    if table is not None:
        names = ("both_right", "only_a", "only_b", "neither")
        parts["agreement"] = pd.DataFrame([dict(zip(names, table.ravel().tolist(), strict=True))])
    if isinstance(found, Margins):
        parts["margins"] = pd.DataFrame(margin_rows(found))
    rows: list[Mapping[Any, Any]] = []
    for part, frame in parts.items():
        rows += frame.assign(part=part).to_dict(orient="records")
    whole = pd.DataFrame(rows).convert_dtypes()  # counts stay whole numbers beside empty cells
    return whole[["part", *(name for name in whole if name != "part")]]
