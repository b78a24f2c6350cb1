"""`fgaug bank score`: score every fake of a bank."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fgaug.cli import options
from fgaug.cli.bank_export import BankUri, Labels, Psis
from fgaug.cli.gan_data import Split, split_of
from fgaug.cli.options import output
from fgaug.core.progress import progress_of
from fgaug.errors import BankError

if TYPE_CHECKING:
    import pandas as pd

    from fgaug.grid.space import JudgeNetwork

_SHARES = ("agrees",)  # columns printed as percentages


def score(
    bank: BankUri,
    dataset: Annotated[str, typer.Option("--dataset", help=options.DATASET)],
    scorer: Annotated[
        list[str] | None,
        typer.Option("--scorer", help="features, classifier, discriminator, or all."),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            "--features",
            help="lite0 (packaged), inception:FILE, vgg16:FILE, dinov2:FILE or model:FILE.",
        ),
    ] = "lite0",
    classifier: Annotated[
        str,
        typer.Option(
            "--classifier",
            help="lite0 (trained now on real images), model:FILE, or a .h5 or .keras file.",
        ),
    ] = "lite0",
    judge_labels: Annotated[
        str | None,
        typer.Option(
            "--judge-labels", help="Labels of a .h5 or .keras classifier, in output order: a,b."
        ),
    ] = None,
    judge_model: Annotated[
        str | None,
        typer.Option(
            "--judge-model", help="Its body in keras.applications (default: InceptionResNetV2)."
        ),
    ] = None,
    judge_scaling: Annotated[
        str | None,
        typer.Option("--judge-scaling", help="unit (pixels / 255, the default) or model."),
    ] = None,
    judge_size: Annotated[
        int | None,
        typer.Option("--judge-size", help="Side of its images in px, if the file lacks it."),
    ] = None,
    discriminator: Annotated[
        list[str] | None,
        typer.Option("--discriminator", help="LABEL=FILE: the GAN pickle the bank came from."),
    ] = None,
    label: Labels = None,
    psi: Psis = None,
    split: Split = "dataset",
    device: Annotated[
        str, typer.Option("--device", help="auto (all GPUs), cpu, cuda or cuda:1.")
    ] = "auto",
) -> None:
    """Score the fakes of a bank that have no scores yet and store the scores in the bank.

    features: realism, density, the nearest real training image and whether the fake copies it.
    classifier: the probability of the fake's label from a classifier trained on reals only.
    discriminator: its logit; needs --discriminator. A grid can use scores in `filter`.
    """
    from fgaug.bank import open_bank
    from fgaug.core import cache
    from fgaug.data import open_dataset
    from fgaug.quality.scoring import score_bank, summary

    cache.evict()
    files = _discriminators(discriminator or [])
    names = _names(scorer or ["all"], bool(files))
    how = score_bank.ScoreOptions(
        features=features,
        classifier=classifier,
        judge=_judge(classifier, judge_labels, judge_model, judge_scaling, judge_size),
        discriminators=files,
        device=device,
    )
    opened = open_bank(bank)
    reals = open_dataset(options.place(dataset)).with_split(split_of(split))
    demand = options.selected(opened, label or [], options.psis(psi or []), None)
    scorers = [score_bank.scorer_of(name, reals, how) for name in names]
    for (of_label, of_psi), z_seeds in demand.wanted.items():
        with progress_of(f"scoring {of_label}, psi {of_psi:g}") as progress:
            score_bank.score_fakes(
                opened, scorers, of_label, of_psi, z_seeds, reals, progress, how
            )
    _print(summary.summary(opened, scorers, demand))
    lines = [
        *(f"{each.name}: {each.words}" for each in scorers),
        *summary.reference(scorers, reals, how),
        *(opened.store.place(f"scores/{each.folder}") for each in scorers),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _names(asked: Sequence[str], discriminators: bool) -> list[str]:
    """Return the scorer names; `all` includes the discriminator only if its files are given."""
    if "all" in asked:
        return ["features", "classifier", *["discriminator"] * discriminators]
    return list(dict.fromkeys(asked))


def _judge(
    classifier: str, labels: str | None, model: str | None, scaling: str | None, size: int | None
) -> JudgeNetwork | None:
    """Return the description of a classifier saved by Keras; None for any other."""
    from pydantic import ValidationError

    from fgaug.core.paths import name_of
    from fgaug.grid.space import KERAS_FILES, JudgeNetwork

    given = {"labels": labels, "model": model, "scaling": scaling, "size": size}
    known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not name_of(classifier).endswith(KERAS_FILES):
        if known:
            raise BankError(
                f"--judge-{next(iter(known))} describes a classifier file saved by Keras "
                f"({', '.join(KERAS_FILES)}), got --classifier {classifier}. Drop it."
            )
        return None
    if labels is None:
        raise BankError(
            f"{classifier} does not name its labels. Give --judge-labels, in the order of its "
            "outputs, such as benign,malignant."
        )
    known["labels"] = [label.strip() for label in labels.split(",")]
    try:
        return JudgeNetwork.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise BankError(f"--judge-{first['loc'][0]}: {message}, got {first['input']}.") from None


def _discriminators(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for text in texts:
        label, equals, file = text.partition("=")
        if not (label and equals and file):
            raise BankError(f"--discriminator must be LABEL=FILE, got {text}.")
        if label in found:
            raise BankError(f"--discriminator names `{label}` twice. Give one file per label.")
        found[label] = file
    return tuple(found.items())


def _print(rows: pd.DataFrame) -> None:
    table = Table()
    for name in rows.columns:
        table.add_column(str(name), justify="left" if name == "label" else "right")
    for row in rows.to_dict("records"):
        table.add_row(*(_text(str(name), value) for name, value in row.items()))
    output().print(table)


def _text(name: str, value: object) -> str:
    if name == "psi" or not isinstance(value, float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return f"{value:.1%}" if name in _SHARES else f"{value:.3f}"
