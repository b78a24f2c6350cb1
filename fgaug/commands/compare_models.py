"""Models in tables, as the breast-ultrasound study prints one.  one_model, two_models -> [here]"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fgaug.commands.numbers import number, rows_of

if TYPE_CHECKING:
    import pandas as pd

    from fgaug.analysis.one_model import OneModel
    from fgaug.analysis.two_models import TwoModels
    from fgaug.stats.arrays import Ints

_PER_LABEL = ("precision", "recall", "specificity", "f1", "auc")
_AVERAGED = ("precision", "recall", "f1")  # by `classification_report`
_AVERAGES = ("macro ", "weighted ")  # they have a table of their own
_SHORT = {"f1": "F1"}
_HEADS = {**_SHORT, "recall": "recall (sensitivity)", "auc": "AUC (one-vs-rest)"}


def tables_of(found: TwoModels) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the title and the rows of each table but that of the tests."""
    if len(found.confusion):
        yield "each label as the positive one", _per_label(found)
    yield "over all images, 95 % intervals", list(_overall(found.scores))
    if len(found.report):
        yield "each label, and the averages over labels", list(_report(found))
    if found.agreement is not None:
        yield "McNemar's table, images", list(_mcnemar(found.agreement))


def tables_of_one(found: OneModel) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the title and the rows of each table of one model."""
    scores = found.scores
    rows = []
    for cells in rows_of(found.confusion):
        row = {"label": cells["label"], "[[TN FP]\n [FN TP]]": _matrix(cells)}
        for one in rows_of(scores[scores["label"].eq(cells["label"])]):
            row[_HEADS.get(one["quantity"], one["quantity"])] = _alone(one, newline=True)
        rows.append(row)
    yield "each label as the positive one", rows
    averages = scores["quantity"].str.startswith(_AVERAGES)
    over_all = rows_of(scores[scores["label"].eq("") & ~averages])
    yield (
        "over all images, 95 % intervals",
        [
            {"score": row["quantity"], "value": _alone(row), "interval": row["interval"] or ""}
            for row in over_all
        ],
    )
    kinds = {"all images": "accuracy"}
    shown = []
    for row in rows_of(found.report):
        values = {_SHORT.get(name, name): number(row[name], 3) for name in _AVERAGED}
        if row["row"] == "all images":  # in the column where scikit-learn has it
            values = {"precision": "", "recall": "", "F1": number(row["accuracy"], 3)}
        label = row["label"] if row["row"] == "label" else kinds.get(row["row"], row["row"])
        shown.append({"label": label, **values, "images": str(row["images"])})
    yield "each label, and the averages over labels", shown


def _alone(row: Mapping[str, Any], newline: bool = False) -> str:
    side = {"a": row["value"], **{f"a_{name}": row[name] for name in ("count", "low", "high")}}
    return _with_interval(side, "a", newline)


def _per_label(found: TwoModels) -> list[dict[str, str]]:
    """Return the rows with each label in turn as the positive."""
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
    """Return the 2x2 table of a label as NumPy prints it."""
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
    """Yield the rows of scikit-learn's `classification_report`, of A and B side by side."""
    sides = [rows_of(found.report[found.report["model"].eq(model)]) for model in "AB"]
    for pair in zip(*sides, strict=True):
        kind = pair[0]["row"]
        names = {"label": pair[0]["label"], "all images": "accuracy"}
        row = {"label": names.get(kind, kind)}
        for side, one in zip("AB", pair, strict=True):
            shown = {name: number(one[name], 3) for name in _AVERAGED}
            if kind == "all images":  # in the column where scikit-learn has it
                shown = {"precision": "", "recall": "", "f1": number(one["accuracy"], 3)}
            row |= {f"{side}\n{_SHORT.get(name, name)}": text for name, text in shown.items()}
        yield {**row, "images": str(pair[0]["images"])}


def _mcnemar(agreement: Ints) -> Iterable[dict[str, str]]:
    for name, counts in zip(("A right", "A wrong"), agreement.tolist(), strict=True):
        yield {"": name, "B right": str(counts[0]), "B wrong": str(counts[1])}
