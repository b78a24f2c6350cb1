"""Read the table of pseudo-labels: labels that a classifier proposed for images without one."""

from __future__ import annotations

from pathlib import Path

from fgaug.data.dataset import Dataset
from fgaug.data.problems import counted, nearest, refuse, shortened
from fgaug.data.tables.label_table import require_columns, text_column
from fgaug.data.tables.table_file import read_cells
from fgaug.errors import DataError

SHA256, LABEL, ACCEPTED = "sha256", "pseudo_label", "accepted"
_ACCEPTED = {"true": True, "false": False}


def accepted_labels(path: Path, dataset: Dataset) -> dict[str, str]:
    """Return the accepted pseudo-label of each image, by SHA-256.

    Args:
        path: a table of `fgaug data pseudo-label`; `accepted` may have been edited.
        dataset: the dataset whose images it labels.

    Raises:
        DataError: the table is not one of pseudo-labels, names other images than those without a
            label in this dataset, or accepts none.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file. Create it with `fgaug data pseudo-label`.")
    wanted = [SHA256, LABEL, ACCEPTED]
    cells = read_cells(path, wanted, what="table of pseudo-labels")
    require_columns(path, cells, wanted)
    columns = [text_column(cells, name).fillna("").tolist() for name in wanted]
    rest = dataset.unlabelled
    known = set(rest.manifest["sha256"]) if rest is not None else set()
    labels = dataset.spec.labels
    problems, found, foreign = [], dict[str, str](), 0
    for row, sha, label, accepted in zip(cells.numbers, *columns, strict=True):
        flag = _ACCEPTED.get(accepted.lower())
        if flag is None:
            problems.append(f'row {row}: accepted must be true or false, got "{accepted}"')
        if label not in labels:
            problems.append(f'row {row}: there is no label "{label}"{nearest(label, labels)}')
        if sha not in known:
            foreign += 1
        elif flag and found.setdefault(sha, label) != label:
            problems.append(f"row {row}: its image has two accepted labels")
    problems = shortened(problems)
    if foreign:
        problems.append(
            f"{counted(foreign, 'row')} of images that are not among those without a label in "
            f"{dataset.place}. Create the table with `fgaug data pseudo-label` for this dataset"
        )
    refuse(str(path), problems)
    if not found:
        raise DataError(f"{path} accepts no image. Lower --bound of `fgaug data pseudo-label`.")
    return found
