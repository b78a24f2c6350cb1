"""The pixels of a dataset, in files of about 64 MB.  prepare -> dataset -> [parts] -> dataset"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fgaug import paths
from fgaug.errors import DataError
from fgaug.pixels import write_pixels

PART_BYTES = 64 << 20


def parts_of(root: Path) -> list[Path]:
    """Return the pixel files of a dataset, in the order of its manifest."""
    first = paths.DatasetPaths(root).pixels(0)
    return sorted(first.parent.glob("part-*.parquet"))


def check_parts(root: Path, *, rows: int, size: int) -> None:
    """Refuse pixel files that are unreadable or do not add up to the manifest's rows."""
    found = 0
    for path in parts_of(root):
        try:
            found += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException) as problem:
            reason = str(problem).splitlines()[0]
            raise DataError(f"{path} is damaged ({reason}). Prepare the dataset again.") from None
    if found != rows:
        raise DataError(
            f"{root} has {rows} images in its manifest and {found} in pixels/ "
            f"({size} px). Files were lost; copy the whole folder or prepare it again."
        )


def write_parts(
    files: paths.DatasetPaths, manifest: pd.DataFrame, images: Iterable[np.ndarray]
) -> None:
    """Write the images, each beside its image_id; `images` are blocks in the manifest's order."""
    first = 0
    for number, block in enumerate(_in_parts(images)):
        ids = manifest["image_id"].iloc[first : first + len(block)].tolist()
        assert len(ids) == len(block), "more images than rows"
        write_pixels(files.pixels(number), block, {"image_id": pa.array(ids, pa.string())})
        first += len(block)
    assert first == len(manifest), "more rows than images"


def _in_parts(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield blocks of about 64 MB, whatever the blocks that come in."""
    held: list[np.ndarray] = []
    for block in images:
        held.append(block)
        if sum(each.nbytes for each in held) >= PART_BYTES:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
