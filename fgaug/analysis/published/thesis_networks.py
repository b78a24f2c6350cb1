"""The thesis's two networks (tables 3.3 and 3.4): on its page, and beside measured snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fgaug.analysis.format import DASH, count, number
from fgaug.analysis.published.source import read_thesis_networks
from fgaug.analysis.report.parts import Table

MEASURES = {"fid": "FID", "precision": "precision", "recall": "recall"}
NETWORKS = {"fid": "inception", "precision": "vgg16", "recall": "vgg16"}  # feature networks
# first digits of the SHA-256 of the weights behind published numbers, as converted for PyTorch
WEIGHTS = {"inception": "6726825d", "vgg16": "397923af"}
OFFICIAL_FAKES = 50_000  # of the metrics of the official program
_OPTIONS = {
    "train_images": "training images",
    "minibatch": "minibatch",
    "mbstd": "mbstd",
    "fmaps": "fmaps",
    "ema_kimg": "EMA kimg",
    "gamma": "gamma",
    "ada_target": "ADA target",
    "lr": "learning rate",
    "augpipe": "augmentation",
    "mirror": "mirror",
    "mapping": "mapping layers",
    "transfer_from": "started from",
    "hours": "hours",
}


def network_tables(networks: pd.DataFrame) -> list[Table]:
    """Return the networks' training options and their metrics, with the printed digits.

    Args:
        networks: the result of `source.read_thesis_networks`.
    """
    options = networks[["network", *_OPTIONS]]
    metrics = networks[["network", *MEASURES]]
    heads = {name: f"{head} ({NETWORKS[name]})" for name, head in MEASURES.items()}
    return [
        Table(
            name="table_3_3_3_4_options",
            title="Tables 3.3 and 3.4: the networks' training options",
            frame=options,
            text=options.rename(columns=_OPTIONS),
            words=("network", "augmentation", "started from"),
        ),
        Table(
            name="table_3_3_3_4_metrics",
            title="Tables 3.3 and 3.4: the networks' metrics",
            frame=metrics,
            text=metrics.rename(columns=heads),
            words=("network",),
            note="Of the snapshots that the thesis chose: of the three or four of lowest FID, the "
            "one of highest precision. `fgaug gan metrics --beside thesis` prints these numbers "
            "beside those of your snapshots.",
        ),
    ]


def beside_thesis(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the thesis's networks and measured snapshots in one table.

    Args:
        rows: comparable rows of `fgaug gan metrics`, at least one. A label that the thesis has
            selects its network; any other label is shown beside both.

    Raises:
        DataError: the published table is missing or damaged.
    """
    published = read_thesis_networks()
    first = rows[0]
    own = published[published["network"].eq(first["label"])]
    published = published if own.empty else own
    frame = pd.DataFrame([*map(_published, published.to_dict("records")), *map(_measured, rows)])
    text = pd.DataFrame(
        {
            "network": frame["network"],
            "training images": frame["n_real"].map(count),
            "fakes": [DASH if n != n else count(n) for n in frame["n_fake"].astype(float)],
            "FID": frame["fid"].map(lambda value: number(value, 2)),
            "FID by": frame["features"],
            "precision": frame["precision"].map(lambda value: number(value, 4)),
            "recall": frame["recall"].map(lambda value: number(value, 4)),
            "precision and recall by": frame["pr_features"],
        }
    )
    return Table(
        name="beside_thesis",
        title="Beside the thesis (tables 3.3 and 3.4)",
        frame=frame,
        text=text,
        words=("network", "FID by", "precision and recall by"),
        note=_differences(first),
    )


def _published(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "network": f"thesis, {row['network']}",
        "n_real": int(row["train_images"]),
        "n_fake": None,  # not among the published numbers
        **{name: float(row[name]) for name in MEASURES},
        "features": NETWORKS["fid"],
        "pr_features": NETWORKS["precision"],
    }


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("n_real", "n_fake", *MEASURES, "features", "pr_features")
    return {"network": row["snapshot"], **{name: row[name] for name in names}}


def _differences(row: Mapping[str, Any]) -> str:
    """Return what keeps the measured numbers from being comparable with the published ones."""
    other = []
    for name, column in (("FID", "features"), ("precision and recall", "pr_features")):
        wanted = NETWORKS["fid" if column == "features" else "precision"]
        network, _, weights = str(row[column]).partition("-")
        if network != wanted:
            other.append(f"{name} by {row[column]}, not {wanted}")
        elif not weights.startswith(WEIGHTS[wanted]):
            other.append(f"{name} by {row[column]}, whose weights are not {WEIGHTS[wanted]}")
    told = f"Not comparable: {'; '.join(other)}. " if other else ""
    return (
        f"{told}The official metrics use {OFFICIAL_FAKES:,} fakes (here {row['n_fake']:,}), and "
        "FID falls as the number of fakes grows. The thesis measured images of other patients."
    )
