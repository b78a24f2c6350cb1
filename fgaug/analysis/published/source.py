"""Source: the shipped tables of the published studies, as printed and as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from fgaug.core.files import sha256_of
from fgaug.core.paths import shipped
from fgaug.errors import DataError
from fgaug.stats.seeds import Spread
from fgaug.stats.summaries import summary

SEEDS = 5  # runs of every cell of the thesis
DDOF = 0  # its stds are numpy's: divided by n
METRICS = ("acc", "auc")
WORDS = {"acc": "accuracy", "auc": "AUC"}
HALF = 0.0005  # half a unit of the last printed digit
THESIS_FILES = (
    "thesis_tables.csv", "thesis_table_3_1.csv", "thesis_table_4_6.csv", "thesis_gan.csv",
)  # fmt: skip
BASELINES = ("baseline", "replacement_baseline")
_MISSING = "The published tables ship with the package; reinstall it or restore the file."


@dataclass(frozen=True, slots=True, kw_only=True)
class Thesis:
    """The thesis's tables. `printed` holds the digits as printed, `cells` numbers."""

    printed: pd.DataFrame  # table, mode, psi, ratio, fakes_*, acc_mean ... loss_avg; all text
    baseline: pd.Series  # of tables 4.1 to 4.5
    cells: pd.DataFrame  # the 36 of augmentation: psi, ratio, acc_mean ... as float
    replacement_baseline: pd.Series  # of tables 4.7 and 4.8
    replacement: pd.DataFrame  # the 4 cells of tables 4.7 and 4.8
    split: pd.DataFrame  # table 3.1, text
    replacement_split: pd.DataFrame  # table 4.6, text
    networks: pd.DataFrame  # tables 3.3 and 3.4, text: see `read_thesis_networks`
    validation: int  # images of table 3.1's validation set
    digests: tuple[tuple[str, str], ...]  # file, SHA-256


def read_thesis() -> Thesis:
    """Return the shipped tables of the thesis.

    Raises:
        DataError: a file is missing or is not the expected table.
    """
    printed = _read("thesis_tables.csv", ("table", "mode", "psi", "ratio", "acc_mean", "loss_avg"))
    numbers = _numbers(printed)
    split = _read("thesis_table_3_1.csv", ("plane", "training", "validation", "total"))
    second = _read("thesis_table_4_6.csv", ("planes", "train_gan", "train_no_gan", "validation"))
    one_each = numbers.drop_duplicates(["mode", "psi", "ratio"])
    return Thesis(
        printed=printed,
        baseline=one_each[one_each["mode"].eq("baseline")].iloc[0],
        cells=one_each[one_each["mode"].eq("augmentation")].reset_index(drop=True),
        replacement_baseline=one_each[one_each["mode"].eq("replacement_baseline")].iloc[0],
        replacement=one_each[one_each["mode"].eq("replacement")].reset_index(drop=True),
        split=split,
        replacement_split=second,
        networks=read_thesis_networks(),
        validation=int(split.loc[split["plane"].eq("total"), "validation"].iloc[0]),
        digests=digests(THESIS_FILES),
    )


def read_thesis_networks() -> pd.DataFrame:
    """Return the thesis's two networks: training options, FID, precision, recall; as printed.

    Raises:
        DataError: the file is missing or is not the expected table.
    """
    return _read("thesis_gan.csv", ("network", "train_images", "fid", "precision", "recall"))


def read_breast() -> pd.DataFrame:
    """Return the breast study's single runs: training_set, n_train, tn_benign ... auc.

    Raises:
        DataError: a file is missing or is not the expected table.
    """
    wanted = ("training_set", "n_train", "tn_benign", "right", "n_test", "auc")
    text = _read("breast_results.csv", wanted)
    counts = ["tn_benign", "fp_benign", "fn_benign", "tp_benign", "right", "n_test"]
    table = text.astype(dict.fromkeys(counts, int))
    table["n_train"] = pd.to_numeric(text["n_train"].replace("", None))
    table["auc"] = text["auc"].astype(float)
    return table


def digests(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return each shipped file's name and SHA-256."""
    return tuple((name, sha256_of(shipped("published") / name)) for name in names)


def spread_of(row: pd.Series, metric: str, *, ddof: int = DDOF) -> Spread:
    """Return a cell's spread over its seeds from the printed mean and std."""
    return summary(row[f"{metric}_mean"], row[f"{metric}_std"], SEEDS, ddof=ddof)


def _read(name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    path = shipped("published") / name
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {_MISSING}") from None
    except (OSError, ValueError) as problem:
        raise DataError(f"{path} cannot be read as a table ({problem}). {_MISSING}") from None
    if lost := [column for column in columns if column not in table]:
        raise DataError(f"{path} lacks {', '.join(lost)}. {_MISSING}")
    return table


def _numbers(printed: pd.DataFrame) -> pd.DataFrame:
    numbers = printed.copy()
    for name in printed.columns[2:]:
        numbers[name] = pd.to_numeric(printed[name].replace({"": None, "bl": None}))
    return numbers
