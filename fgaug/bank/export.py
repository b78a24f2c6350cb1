"""Export a bank's fakes as image files or as a Hugging Face dataset."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fgaug.bank.demand import Demand
from fgaug.bank.format import BankSpec
from fgaug.bank.reader import Bank
from fgaug.core.files import atomic_write, disk_errors, write_text
from fgaug.errors import BankError, DiskFullError

METADATA = "metadata.csv"  # read by Hugging Face's imagefolder, with a column file_name
INDEX = "index.csv"
MARKERS = {"png": INDEX, "bmp": INDEX, "hf": "README.md"}  # written last; absent if unfinished
LAYOUTS = ("psi", "label")  # LABEL/psi_PSI/FILE, or LABEL/FILE
FILE_ROWS, FILE_BYTES = 5000, 512 << 20  # of a Parquet file; bytes before compression
BATCH_ROWS, BATCH_BYTES = 1000, 64 << 20  # per read and row group
Progress = Callable[[int], None]  # images written
Piece = tuple[str, float, np.ndarray]  # label, psi, z_seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The filter that selected the exported fakes."""

    filter: str
    scorers: tuple[str, ...]  # folders of the scores that it read


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Format and folders of exported image files."""

    suffix: str = "png"  # or bmp; both lossless
    layout: str = "psi"  # one of LAYOUTS

    def name(self, label: str, psi: float, z_seed: int) -> str:
        """Return the name of an image, with the z_seed formatted as in the official programs."""
        below = f"psi_{psi_text(psi)}/" if self.layout == "psi" else ""
        return f"{label}/{below}seed{z_seed:04d}.{self.suffix}"


def psi_text(psi: float) -> str:
    """Return `0.7`, and `1` for 1.0; exact, so that close psis stay distinct."""
    return repr(float(psi)).removesuffix(".0")


def check_out(out: Path, kind: str) -> None:
    """Refuse an output path that is in use."""
    if out.exists() and not out.is_dir():
        raise BankError(f"--out {out} is a file, and an export is a folder. Give another path.")
    if out.is_dir() and any(out.iterdir()):
        cut_off = "" if (out / MARKERS[kind]).exists() else f" (it has no {MARKERS[kind]})"
        raise BankError(
            f"--out {out} is not empty. Give a new folder, or remove this one if it is an "
            f"unfinished export{cut_off}."
        )


def write_pictures(
    bank: Bank,
    demand: Demand,
    out: Path,
    progress: Progress,
    how: Pictures = Pictures(),
    selection: Selection | None = None,
) -> None:
    """Write one file per image, mode L or RGB, metadata.csv, and index.csv last.

    Both tables have one row per image: its file, label, psi and z_seed, and with a selection its
    filter and the scores behind it. Loaders that use the top folder as the class (torchvision,
    Keras) need neither. Hugging Face's `imagefolder` would use the bottom one, psi_<psi>, but
    reads metadata.csv instead.

    Raises:
        BankError: a label cannot name a folder, or several psis of it would share file names.
        DiskFullError: no space left; the export is unfinished.
    """
    check_labels(demand)
    check_layout(demand, how)
    columns = ["label", "psi", "z_seed"]
    reason: list[str] = []
    if selection is not None:
        columns += ["filter", "scorers"]
        reason = [selection.filter, " ".join(selection.scorers)]
    done = 0
    with (
        _full_disk(out),
        atomic_write(out / INDEX) as index,  # opened first, so renamed last
        atomic_write(out / METADATA) as metadata,
        index.open("w", encoding="utf-8", newline="") as file,
        metadata.open("w", encoding="utf-8", newline="") as beside,
    ):
        tables = [csv.writer(each, lineterminator="\n") for each in (file, beside)]
        for table, name in zip(tables, ("file", "file_name"), strict=True):
            table.writerow([name, *columns])
        for label, psi, z_seeds in demand.pieces(_batch_rows(bank.spec)):
            (out / how.name(label, psi, 0)).parent.mkdir(parents=True, exist_ok=True)
            encoded = _encoded(bank, label, psi, z_seeds, how.suffix)
            for z_seed, data in zip(z_seeds, encoded, strict=True):
                name = how.name(label, psi, z_seed)
                (out / name).write_bytes(data)
                for table in tables:
                    table.writerow([name, label, psi_text(psi), z_seed, *reason])
            done += len(z_seeds)
            progress(done)


def write_hf(
    bank: Bank,
    demand: Demand,
    out: Path,
    progress: Progress,
    selection: Selection | None = None,
) -> None:
    """Write `data/*.parquet` in the schema of the `datasets` library, and README.md last.

    With a selection, README.md states its filter.

    Raises:
        DiskFullError: no space left; the export is unfinished.
    """
    check_labels(demand)
    names = sorted(bank.spec.sources)  # alphabetical, as the classes of a dataset
    schema = hf_schema(names)
    files = _files(demand, bank.spec)
    done = 0
    with _full_disk(out):
        for number, pieces in enumerate(files):
            path = out / "data" / f"train-{number:05d}-of-{len(files):05d}.parquet"
            # PNG does not compress further, and its statistics would contain whole images
            with (
                atomic_write(path) as temporary,
                pq.ParquetWriter(
                    temporary,
                    schema,
                    compression="none",
                    use_dictionary=["label", "psi"],
                    write_statistics=["label", "psi", "z_seed"],
                ) as writer,
            ):
                for label, psi, z_seeds in pieces:
                    columns = _columns(bank, label, psi, z_seeds, names.index(label))
                    writer.write_table(pa.table(columns, schema=schema))
                    done += len(z_seeds)
                    progress(done)
        write_text(out / MARKERS["hf"], _card(bank.spec, demand, selection))


def hf_schema(labels: Sequence[str]) -> pa.Schema:
    """Return the Parquet schema, including the features for the `datasets` library."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(labels), "_type": "ClassLabel"},
        "psi": {"dtype": "float64", "_type": "Value"},
        "z_seed": {"dtype": "int64", "_type": "Value"},
    }
    fields = {
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "label": pa.int64(),
        "psi": pa.float64(),
        "z_seed": pa.int64(),
    }
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def check_labels(demand: Demand) -> None:
    """Refuse labels that are not valid folder names: foreign banks may have any text."""
    for label, _ in demand.wanted:
        if not label or label.startswith(".") or set(label) & set("/\\\0"):
            raise BankError(
                f"The bank's label {label!r} is not a valid folder name. Export the others with "
                "--label."
            )


def check_layout(demand: Demand, how: Pictures) -> None:
    """Refuse several psis of a label in one folder, where z_seeds would share file names."""
    if how.layout not in LAYOUTS:
        raise BankError(f"--layout must be {' or '.join(LAYOUTS)}, got {how.layout}.")
    if how.layout == "psi":
        return
    psis: dict[str, list[str]] = {}
    for label, psi in demand.wanted:
        psis.setdefault(label, []).append(psi_text(psi))
    for label, several in psis.items():
        if len(several) > 1:
            raise BankError(
                f"--layout label puts all fakes of a label into one folder, but {label} has psi "
                f"{', '.join(several)}. Choose one with --psi, or omit --layout."
            )


@contextlib.contextmanager
def _full_disk(out: Path) -> Iterator[None]:
    """Report a full disk in one message; an interrupted export cannot be resumed."""
    try:
        with disk_errors(out):
            yield
    except DiskFullError as error:
        raise DiskFullError(
            f"No space left while writing the export {out}, which is unfinished. "
            "Remove that folder, free some space and run the same command again."
        ) from error


def _batch_rows(spec: BankSpec) -> int:
    return max(1, min(BATCH_ROWS, BATCH_BYTES // _image_bytes(spec)))


def _image_bytes(spec: BankSpec) -> int:
    return spec.size * spec.size * spec.channels


def _encoded(
    bank: Bank, label: str, psi: float, z_seeds: np.ndarray, suffix: str = "png"
) -> Iterator[bytes]:
    """Yield the images as files, mode L or RGB."""
    for image in bank.read(label=label, psi=psi, z_seeds=z_seeds.tolist()):
        encoded = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(encoded, suffix)
        yield encoded.getvalue()


def _files(demand: Demand, spec: BankSpec) -> list[list[Piece]]:
    """Return the pieces of each Parquet file."""
    limit = max(1, min(FILE_ROWS, FILE_BYTES // _image_bytes(spec)))
    files: list[list[Piece]] = []
    rows = limit
    for piece in demand.pieces(min(limit, _batch_rows(spec))):
        if rows + len(piece[2]) > limit:
            files.append([])
            rows = 0
        files[-1].append(piece)
        rows += len(piece[2])
    return files


def _columns(
    bank: Bank, label: str, psi: float, z_seeds: np.ndarray, class_index: int
) -> dict[str, Any]:
    names = [Pictures().name(label, psi, z_seed) for z_seed in z_seeds]
    encoded = list(_encoded(bank, label, psi, z_seeds))
    image = [pa.array(encoded, pa.binary()), pa.array(names, pa.string())]
    return {
        "image": pa.StructArray.from_arrays(image, names=["bytes", "path"]),
        "label": np.full(len(z_seeds), class_index, np.int64),
        "psi": np.full(len(z_seeds), psi, np.float64),
        "z_seed": z_seeds,
    }


def _card(spec: BankSpec, demand: Demand, selection: Selection | None) -> str:
    """Return the text of README.md, which describes the bank.

    Its header lists no data files: with a `configs` entry, datasets 5.2 keys its cache only by the
    folder's name and may load another export of that name. It finds data/train-* anyway.
    """
    lines = [
        "---",
        "tags:",
        "- synthetic",
        "---",
        "# Generated images",
        "",
        f"{demand.count} images of {spec.size} px, {spec.channels} "
        f"channel{'s' if spec.channels > 1 else ''}, all made by generative networks. None of "
        "them is real.",
        f"Noise: {spec.noise}. Resize filter if the network's size differs: {spec.resize_filter}.",
        "`psi` is the truncation. Network, psi and z_seed reproduce an image.",
    ]
    if selection is not None:
        lines.append(
            f"Filter: only images that pass `{selection.filter}`, by the scores "
            f"{', '.join(selection.scorers) or '-'}."
        )
    lines += ["", "Networks:"]
    for label, source in sorted(spec.sources.items()):
        of_class = "" if source.class_index is None else f", class {source.class_index}"
        lines.append(
            f"* {label}: {source.kind} {source.name}, SHA-256 {source.sha256[:12]}{of_class}"
        )
    lines += ["", "Images:"]
    for (label, psi), z_seeds in demand.wanted.items():
        span = f"z_seeds {z_seeds[0]} to {z_seeds[-1]}"
        lines.append(f"* {label}, psi {psi_text(psi)}: {len(z_seeds)} images, {span}")
    return "\n".join(lines) + "\n"
