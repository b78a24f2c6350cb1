"""Write pairs of near-duplicate images as a table and as pages with the images side by side.

`pairs.csv` lists every pair; `pairs.html` and its continuation pages show the images. The files
are self-contained. Labels of test images stay sealed; the page says only whether the labels of a
pair differ.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fgaug.core import files
from fgaug.data.problems import counted
from fgaug.errors import DataError

CSV, PAGE = "pairs.csv", "pairs.html"
MAX_SHOWN = 2000  # pairs shown as images; the table lists all
_A_PAGE = 200  # pairs
_SEALED = "sealed"
Pictures = Callable[[np.ndarray], np.ndarray]  # rows -> uint8 [n, H, W, C]
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; max-width: 60rem }
figure { display: flex; gap: 1rem; margin: 0 0 .8rem; padding: .6rem; border: 1px solid #ccc }
figure.bad { border-color: #b00; background: #fff5f5 }
img { width: 160px; height: 160px; object-fit: contain; image-rendering: pixelated }
figcaption { min-width: 12rem } td { padding-right: 1rem } small { color: #555 }
"""


def pair_table(
    table: pd.DataFrame, pairs: pd.DataFrame, done: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return one row per pair with names, groups, splits and labels, most serious first.

    Args:
        table: image_id, label, group, split (empty where an image was left out).
        pairs: rows of `table`; see `fgaug.data.copies.lookalikes.Alike`.
        done: the action taken on each pair.
    """
    sides: dict[str, pd.Series] = {}
    for side in ("one", "other"):
        rows = table.iloc[pairs[side].to_numpy()].reset_index(drop=True)
        labels = rows["label"].where(rows["split"] != "test", _SEALED)
        sides |= {f"{side}_{name}": rows[name] for name in ("image_id", "group", "split")}
        sides[f"{side}_label"] = labels
        sides[f"_{side}"] = rows["label"]
    frame = pd.DataFrame(sides)
    frame.insert(0, "kind", pairs["kind"].to_numpy())
    frame.insert(1, "correlation", pairs["correlation"].to_numpy())
    one, other = frame["one_split"], frame["other_split"]
    first, second = frame.pop("_one"), frame.pop("_other")
    frame["labels_differ"] = first.notna() & second.notna() & (first != second)
    frame["across_split"] = (one != other) & (one != "") & (other != "")
    frame["done"] = list(done) if done is not None else ""
    order = frame.sort_values(
        ["labels_differ", "across_split", "correlation"], ascending=False, kind="stable"
    )
    return order.assign(_one=pairs["one"].to_numpy()[order.index]).assign(
        _other=pairs["other"].to_numpy()[order.index]
    )


def check_folder(folder: Path, option: str) -> None:
    """Refuse a path where the pages cannot be written."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{option} {folder} is a file. Give a folder.")


def write_pairs(
    folder: Path, frame: pd.DataFrame, pictures: Pictures, limits: Iterable[str] = ()
) -> list[Path]:
    """Write every pair into a folder and return the files, the first page last.

    Args:
        folder: created if missing; pages of an earlier audit are replaced.
        frame: of `pair_table`.
        pictures: returns the prepared images of rows.
        limits: what the search did not cover, in words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("pairs*.html"):
        old.unlink()
    shown = frame.iloc[:MAX_SHOWN]
    parts = [shown.iloc[first : first + _A_PAGE] for first in range(0, len(shown), _A_PAGE)]
    names = [PAGE, *(f"pairs-{number}.html" for number in range(2, len(parts) + 1))]
    table = frame.drop(columns=["_one", "_other"])
    with files.atomic_write(folder / CSV) as temporary:
        table.to_csv(temporary, index=False)
    for number, part in reversed(list(enumerate(parts or [shown]))):
        text = _page(part, pictures, _summary(frame, limits), names, number)
        files.write_text(folder / names[number], text)
    return [folder / CSV, *(folder / name for name in reversed(names))]


def _summary(frame: pd.DataFrame, limits: Iterable[str]) -> list[str]:
    across, differ = int(frame["across_split"].sum()), int(frame["labels_differ"].sum())
    kinds = ", ".join(f"{n} {kind}" for kind, n in frame["kind"].value_counts().items()) or "none"
    lines = [
        f"{counted(len(frame), 'pair')} of near-duplicate images ({kinds}); {across} across "
        f"splits, {differ} under two labels. Every pair is in {CSV}.",
        "Images are shown as prepared. Labels of test images are sealed.",
    ]
    if len(frame) > MAX_SHOWN:
        lines.append(f"The {MAX_SHOWN} most serious pairs are shown.")
    return [*lines, *(f"Limit: {limit}." for limit in limits)]


def _page(
    part: pd.DataFrame, pictures: Pictures, summary: list[str], names: list[str], number: int
) -> str:
    rows = np.unique(np.concatenate([part["_one"], part["_other"]]).astype(np.int64))
    encoded = dict(zip(rows.tolist(), map(_encoded, pictures(rows)), strict=True))
    links = " ".join(
        f"<b>{each + 1}</b>" if each == number else f'<a href="{name}">{each + 1}</a>'
        for each, name in enumerate(names)
    )
    figures = "\n".join(_figure(row, encoded) for _, row in part.iterrows())
    said = "".join(f"<p>{html.escape(line)}</p>" for line in summary)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Near-duplicate pairs</title>'
        f"<style>{_STYLE}</style><h1>Near-duplicate pairs</h1>{said}"
        f"{f'<p>Page {links}</p>' if len(names) > 1 else ''}{figures}</html>\n"
    )


def _figure(row: pd.Series, encoded: dict[int, str]) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(str(row[f'{side}_image_id']))}</td>"
        f"<td>{html.escape(str(row[f'{side}_label']))}</td>"
        f"<td>group {html.escape(str(row[f'{side}_group']))}</td>"
        f"<td>{html.escape(str(row[f'{side}_split']) or 'left out')}</td></tr>"
        for side in ("one", "other")
    )
    marks = [f"{row['kind']}, correlation {row['correlation']:.4f}"]
    marks += ["across the split"] if row["across_split"] else []
    marks += ["two labels"] if row["labels_differ"] else []
    marks += [str(row["done"])] if row["done"] else []
    bad = ' class="bad"' if row["across_split"] or row["labels_differ"] else ""
    images = "".join(
        f'<img alt="" src="data:image/png;base64,{encoded[int(str(row[side]))]}">'
        for side in ("_one", "_other")
    )
    return (
        f"<figure{bad}>{images}<figcaption><table>{cells}</table>"
        f"<small>{html.escape('; '.join(marks))}</small></figcaption></figure>"
    )


def _encoded(pixels: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()
