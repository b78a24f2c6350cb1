"""Terminal tables for comparisons and single models, laid out as in the breast study."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fgaug.analysis.format import many, p_value
from fgaug.cli.numbers import DASH, number, rows_of
from fgaug.cli.options import FILE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

    from fgaug.analysis.compare.one_model import OneModel
    from fgaug.analysis.compare.published_margins import Margins
    from fgaug.analysis.compare.two_arms import TwoArms
    from fgaug.analysis.compare.two_models import TwoModels
    from fgaug.stats.arrays import Ints

    Comparison = OneModel | TwoModels | TwoArms | Margins

_PER_LABEL = ("precision", "recall", "specificity", "f1", "auc")
_AVERAGED = ("precision", "recall", "f1")  # by `classification_report`
_AVERAGES = ("macro ", "weighted ")  # in the per-label table
_SHORT = {"f1": "F1"}


def show(found: Comparison) -> None:
    """Print a comparison to stdout."""
    console = Console(
        width=None if sys.stdout.isatty() else FILE_COLUMNS,
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    head, *rest = texts(found)
    console.print(head)
    for table in _tables(found):
        console.print(table, soft_wrap=False)
    for line in rest:
        console.print(line)


def texts(found: Comparison) -> list[str]:
    """Return the text around the tables: what is compared, notes, verdicts and the claim."""
    from fgaug.analysis.compare.one_model import OneModel
    from fgaug.analysis.compare.published_margins import Margins

    if isinstance(found, Margins):
        return [_margin_head(found), *_margin_verdict(found)]
    if isinstance(found, OneModel):
        head = f"{found.name}\n{_images(found)}, labels {', '.join(found.labels)}"
        notes = [f"note: {note}" for note in found.notes]
        return [head, *notes, f"level {found.level}: {found.claim}"]
    sides = [f"{letter}  {name}" for letter, name in zip("AB", found.names, strict=True)]
    labels = f", labels {', '.join(found.labels)}" if found.labels else ""
    counts = f"{_images(found)}{labels}; A - B"
    notes = [f"note: {note}" for note in found.notes]
    level = f"level {found.level}: {found.claim}"
    return ["\n".join([*sides, counts]), *notes, *found.verdict, level]


def _images(found: OneModel | TwoModels | TwoArms) -> str:
    images = many(found.n_images, "image")
    if not found.grouped:
        return f"{images}, each counted as its own patient (no patient column)"
    return f"{images} of {many(found.n_patients, 'patient')}"


def margin_rows(found: Margins) -> list[dict[str, Any]]:
    """Return the two extreme tables that the margins allow, each with its tests."""
    rows = []
    for name, table, test in (
        ("fewest disagreements", found.tables[0], found.fewest),
        ("most disagreements", found.tables[1], found.most),
    ):
        both, only_a, only_b, neither = table.ravel().tolist()
        rows.append(
            {
                "table": name,
                "both_right": both,
                "only_a": only_a,
                "only_b": only_b,
                "neither": neither,
                "accuracy_a": test.accuracy_a,
                "accuracy_b": test.accuracy_b,
                "difference": test.difference,
                "ci_low": test.fay_lumbard[0],
                "ci_high": test.fay_lumbard[1],
                "p_mid": test.p_mid,
                "p_exact": test.p_exact,
                "level": "E0",
            }
        )
    return rows


def _tables(found: Comparison) -> Iterable[Table]:
    from fgaug.analysis.compare.one_model import OneModel
    from fgaug.analysis.compare.published_margins import Margins
    from fgaug.analysis.compare.two_models import TwoModels

    if isinstance(found, Margins):
        yield _table("all tables between these two are possible", _shown(margin_rows(found)))
        return
    if isinstance(found, OneModel):
        for title, rows in tables_of_one(found):
            yield _table(title, rows)
        return
    if isinstance(found, TwoModels):
        for title, rows in tables_of(found):
            yield _table(title, rows)
    else:
        title = (
            "over seeds: mean (sample sd); share of the variance of A - B due to seeds and to "
            "patients; the first metric is the primary one"
        )
        yield _table(title, [_arm_row(row) for row in rows_of(found.summary)])
    yield _table("tests", [_test_row(row) for row in rows_of(found.tests)])


def _arm_row(row: Mapping[str, Any]) -> dict[str, str]:
    def side(letter: str) -> str:
        sd = number(row[f"sd_{letter}"])
        return f"{number(row[f'mean_{letter}'])} ({sd})"

    return {
        "metric": row["metric"],
        "A": side("a"),
        "A, range": f"{number(row['min_a'])} to {number(row['max_a'])}",
        "B": side("b"),
        "B, range": f"{number(row['min_b'])} to {number(row['max_b'])}",
        "A - B": number(row["difference"], sign=True),
        "P(A>B)": f"{number(row['p_greater'], 2)} ({row['run_pairs']})",
        "from seeds": _percent(row["seed_share"]),
        "from patients": _percent(row["patient_share"]),
    }


def _test_row(row: Mapping[str, Any]) -> dict[str, str]:
    interval = DASH
    if row["ci_low"] == row["ci_low"]:
        ends = (number(row["ci_low"], sign=True), number(row["ci_high"], sign=True))
        interval = f"{ends[0]} to {ends[1]}"
    return {
        "quantity": row["quantity"],
        "test": row["test"],
        "level": row["level"],
        "A - B": number(row["difference"], sign=True),
        "95 % interval": interval,
        # McNemar's statistic is a count of images
        "statistic": number(row["statistic"], 0 if row["test"].startswith("McNemar") else 3),
        "df": number(row["df"], 1),
        "p": p_value(row["p_value"], "table"),
        "why undefined": row["reason"] if isinstance(row["reason"], str) else "",
    }


def _percent(value: float) -> str:
    return DASH if value != value else f"{100 * value:.0f} %"


def _margin_head(found: Margins) -> str:
    one = found.fewest
    rights = [round(one.accuracy_a * one.n), round(one.accuracy_b * one.n)]
    return (
        f"A is right on {rights[0]} of {one.n} images, B on {rights[1]}: A - B "
        f"{one.difference:+.4f}; their number of disagreements is unknown"
    )


def _margin_verdict(found: Margins) -> list[str]:
    low, high = found.fewest.p_exact, found.most.p_exact
    verdict = f"exact McNemar p (E0) lies between {low:.3g} and {high:.3g}"
    word = "above" if found.fewest.difference > 0 else "below"
    if found.significant == found.possible:
        verdict += f": A is {word} B for every possible pairing of the predictions"
    elif found.significant == 0:
        verdict += ": no possible table is significant, which does not prove that A equals B"
    else:
        verdict += (
            f": p is at most .05 in {found.significant} of {found.possible} possible tables; only "
            "the paired predictions can decide"
        )
    return [
        verdict,
        f"level {found.level}: {found.claim}",
        "note: each image counts as its own patient",
    ]


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            **{name.replace("_", " "): str(row[name]) for name in list(row)[:5]},
            "95 % interval of A - B": (
                f"{number(row['ci_low'], sign=True)} to {number(row['ci_high'], sign=True)}"
            ),
            "McNemar, mid-p": p_value(row["p_mid"], "table"),
            "McNemar, exact p": p_value(row["p_exact"], "table"),
        }
        for row in rows
    ]


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Return a table without its empty columns; brackets in names are not read as markup."""
    empty = {name for name in rows[0] if all(row[name] in ("", DASH) for row in rows)}
    names = [name for name in rows[0] if name not in empty]
    table = Table(title=Text(title), title_justify="left")
    for name in names:
        table.add_column(Text(name), justify="left")
    for row in rows:
        table.add_row(*(Text(str(row.get(name, ""))) for name in names))
    return table


_HEADS = {**_SHORT, "recall": "recall (sensitivity)", "auc": "AUC (one-vs-rest)"}


def tables_of(found: TwoModels) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the title and rows of each table except the table of tests."""
    if len(found.confusion):
        yield "each label as the positive class", _per_label(found)
    yield "all images, 95 % confidence intervals", list(_overall(found.scores))
    if len(found.report):
        yield "each label, and averages over labels", list(_report(found))
    if found.agreement is not None:
        yield "McNemar's table (images)", list(_mcnemar(found.agreement))


def tables_of_one(found: OneModel) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the title and rows of each table about one model."""
    scores = found.scores
    rows = []
    for cells in rows_of(found.confusion):
        row = {"label": cells["label"], "[[TN FP]\n [FN TP]]": _matrix(cells)}
        for one in rows_of(scores[scores["label"].eq(cells["label"])]):
            row[_HEADS.get(one["quantity"], one["quantity"])] = _alone(one, newline=True)
        rows.append(row)
    yield "each label as the positive class", rows
    averages = scores["quantity"].str.startswith(_AVERAGES)
    over_all = rows_of(scores[scores["label"].eq("") & ~averages])
    yield (
        "all images, 95 % confidence intervals",
        [
            {"score": row["quantity"], "value": _alone(row), "interval": row["interval"] or ""}
            for row in over_all
        ],
    )
    kinds = {"all images": "accuracy"}
    shown = []
    for row in rows_of(found.report):
        values = {_SHORT.get(name, name): number(row[name], 3) for name in _AVERAGED}
        if row["row"] == "all images":  # in scikit-learn's column
            values = {"precision": "", "recall": "", "F1": number(row["accuracy"], 3)}
        label = row["label"] if row["row"] == "label" else kinds.get(row["row"], row["row"])
        shown.append({"label": label, **values, "images": str(row["images"])})
    yield "each label, and averages over labels", shown


def _alone(row: Mapping[str, Any], newline: bool = False) -> str:
    side = {"a": row["value"], **{f"a_{name}": row[name] for name in ("count", "low", "high")}}
    return _with_interval(side, "a", newline)


def _per_label(found: TwoModels) -> list[dict[str, str]]:
    """Return the rows with each label in turn as the positive class."""
    rows: list[dict[str, str]] = []
    scores = found.scores[found.scores["label"].ne("")]
    for cells in rows_of(found.confusion):
        side = cells["model"].lower()
        row = {"label": cells["label"], "model": cells["model"]}
        row["[[TN FP]\n [FN TP]]"] = _matrix(cells)
        for one in rows_of(scores[scores["label"].eq(cells["label"])]):
            if one["quantity"] in _PER_LABEL:
                head = _HEADS.get(one["quantity"], one["quantity"])
                row[head] = _with_interval(one, side, newline=True)
        rows.append(row)
    rows.sort(key=lambda row: found.labels.index(row["label"]))
    return rows


def _matrix(cells: Mapping[str, Any]) -> str:
    """Return a label's 2x2 table formatted as NumPy prints it."""
    counts = [str(cells[name]) for name in ("tn", "fp", "fn", "tp")]
    wide = max(map(len, counts))
    tn, fp, fn, tp = (count.rjust(wide) for count in counts)
    return f"[[{tn} {fp}]\n [{fn} {tp}]]"


def _overall(scores: pd.DataFrame) -> Iterable[dict[str, str]]:
    averages = scores["quantity"].str.startswith(_AVERAGES)
    for row in rows_of(scores[scores["label"].eq("") & ~averages]):
        yield {
            "score": row["quantity"],
            "A": _with_interval(row, "a"),
            "B": _with_interval(row, "b"),
            "A - B": number(row["difference"], sign=True),
            "interval": row["interval"] or "",
        }


def _with_interval(row: Mapping[str, Any], side: str, newline: bool = False) -> str:
    text = number(row[side])
    if row[f"{side}_count"]:
        text += f" ({row[f'{side}_count']})"
    low, high = row[f"{side}_low"], row[f"{side}_high"]
    if low == low:
        text += f"{chr(10) if newline else ' '}{number(low, 3)} to {number(high, 3)}"
    return text


def _report(found: TwoModels) -> Iterable[dict[str, str]]:
    """Yield the rows of scikit-learn's `classification_report`, A and B side by side."""
    sides = [rows_of(found.report[found.report["model"].eq(model)]) for model in "AB"]
    for pair in zip(*sides, strict=True):
        kind = pair[0]["row"]
        names = {"label": pair[0]["label"], "all images": "accuracy"}
        row = {"label": names.get(kind, kind)}
        for side, one in zip("AB", pair, strict=True):
            shown = {name: number(one[name], 3) for name in _AVERAGED}
            if kind == "all images":  # in scikit-learn's column
                shown = {"precision": "", "recall": "", "f1": number(one["accuracy"], 3)}
            row |= {f"{side}\n{_SHORT.get(name, name)}": text for name, text in shown.items()}
        yield {**row, "images": str(pair[0]["images"])}


def _mcnemar(agreement: Ints) -> Iterable[dict[str, str]]:
    for name, counts in zip(("A right", "A wrong"), agreement.tolist(), strict=True):
        yield {"": name, "B right": str(counts[0]), "B wrong": str(counts[1])}
