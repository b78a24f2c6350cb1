"""Read FETAL_PLANES_DB: planes of the fetal brain, or all six classes of the set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from fgaug.data.ingest import Ingested, from_csv
from fgaug.data.problems import listed, nearest, refuse
from fgaug.data.tables.label_table import LabelColumns, read_labels
from fgaug.errors import DataError

_LOG = logging.getLogger("fgaug")
_TABLE = "FETAL_PLANES_DB_data.csv"
DEFAULT_PLANES = ("trans-thalamic", "trans-ventricular")
# Each plane of the brain by its name in options: its value in the column Brain_plane, and its
# label. `dbp` and `trv` are the thesis's labels.
PLANES = {
    "trans-thalamic": ("Trans-thalamic", "dbp"),
    "trans-ventricular": ("Trans-ventricular", "trv"),
    "trans-cerebellum": ("Trans-cerebellum", "trans-cerebellum"),
    "other-brain": ("Other", "other-brain"),
}
ALL = "all"  # the six classes of the column Plane, in which the brain is one
_NO_BRAIN = "Not A Brain"  # of Brain_plane
_CLASSES = {
    "Fetal abdomen": "fetal-abdomen",
    "Fetal brain": "fetal-brain",
    "Fetal femur": "fetal-femur",
    "Fetal thorax": "fetal-thorax",
    "Maternal cervix": "maternal-cervix",
    "Other": "other",
}


def fetal_planes(
    source: str | Path,
    *,
    images: str = "Images",
    keep_labels: Sequence[str] = (),
    planes: Sequence[str] = DEFAULT_PLANES,
) -> Ingested:
    """Return planes of FETAL_PLANES_DB (Burgos-Artizzu et al. 2020), by patient.

    By default these are the two planes of the thesis: trans-thalamic becomes `dbp`,
    trans-ventricular `trv`. Rows of other planes are counted in a warning. This is the public
    dataset closest to that of the thesis, but has fewer images, and uncropped. Its column `Train `
    splits the patients in two without a validation set; it is ignored, and the split is drawn as
    for any dataset.

    Args:
        source: folder with the table and a folder of images.
        images: name of that folder.
        keep_labels: subset of the labels of the planes.
        planes: two or more keys of PLANES; or ALL alone, for the six classes of the set.
    """
    source = Path(source)
    table, folder = source / _TABLE, source / images
    there = {_TABLE: table.is_file(), f"folder {images}": folder.is_dir()}
    if lacking := [name for name, found in there.items() if not found]:
        raise DataError(
            f"{source} has no {' and no '.join(lacking)}. Give the folder with the "
            f"unpacked FETAL_PLANES_DB, which has {_TABLE} and the folder Images."
        )
    column, labels, others = _chosen(planes)
    _check(table, column, labels, others, keep_labels)
    rows = from_csv(
        table,
        folder,
        image_col="Image_name",
        label_col=column,
        group_col="Patient_num",
        stratum_cols=("Operator", "US_Machine"),
        rename_strata=("operator", "machine"),
        keep_labels=[
            value for value, label in labels.items() if label in keep_labels or not keep_labels
        ],
        rename_labels=labels,
    )
    counts = rows.table["label"].value_counts().sort_index()
    here = ", ".join(f"{count} {label}" for label, count in counts.items())
    _LOG.warning(
        f"FETAL_PLANES_DB has {here}, uncropped; the thesis had 5311 dbp and 3436 trv images of "
        "its own, cropped to the brain. Do not compare results with its tables."
    )
    return rows


def _chosen(planes: Sequence[str]) -> tuple[str, dict[str, str], Sequence[str]]:
    """Return the label column, the label of each value to keep, and the other known values."""
    known = [*PLANES, ALL]
    problems = [
        f'--planes "{name}" is unknown{nearest(name, known)}'
        for name in planes
        if name not in known
    ]
    if len(set(planes)) != len(planes):
        problems.append(f"--planes names a plane twice: {', '.join(planes)}")
    if ALL in planes and len(planes) > 1:
        problems.append(
            f"--planes {ALL} stands alone: it gives the set's six classes, and the brain is one "
            "of them"
        )
    elif ALL not in planes and len(planes) < 2 and not problems:
        problems.append(
            f"--planes must name two or more planes, got {', '.join(planes) or 'none'}"
        )
    refuse("--preset fetal-planes", problems)
    if ALL in planes:
        return "Plane", _CLASSES, ()
    chosen = dict(PLANES[name] for name in planes)
    others = [value for value, _ in PLANES.values() if value not in chosen]
    return "Brain_plane", chosen, (*others, _NO_BRAIN)


def _check(
    table: Path,
    column: str,
    labels: Mapping[str, str],
    others: Sequence[str],
    keep_labels: Sequence[str],
) -> None:
    """Refuse labels that the preset does not define, and planes unknown to it."""
    named = list(labels.values())
    problems = [
        f'the preset has no label "{label}"{nearest(label, named)}'
        for label in keep_labels
        if label not in named
    ]
    columns = LabelColumns(image="Image_name", label=column)
    found = read_labels(table, columns, (), [])["label"].dropna()  # from_csv reports problems
    known = (*labels, *others)
    if unknown := sorted(set(found) - set(known)):
        problems.append(
            f"{column} has unknown planes: {listed(unknown)}. Known planes are {listed(known)}"
        )
    refuse(str(table), problems)
