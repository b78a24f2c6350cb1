"""Summaries of scores in a few rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fgaug.bank import Bank, Demand, Scorer, read_scores
from fgaug.data import Dataset
from fgaug.errors import DataError
from fgaug.quality.scoring import network_scorers
from fgaug.quality.scoring.feature_scorers import FeatureJudge, PackagedClassifier
from fgaug.quality.scoring.image_scores import ALPHA
from fgaug.quality.scoring.keras_judge import KerasJudge
from fgaug.quality.scoring.score_bank import DEFAULT, ProgressCounter, ScoreOptions, judge_of


def summary(bank: Bank, scorers: Sequence[Scorer], demand: Demand) -> pd.DataFrame:
    """Return one row per (label, psi) of scored fakes: n, and mean scores.

    Mean realism leaves out exact copies, whose realism is infinite.
    """
    rows = []
    for (label, psi), z_seeds in demand.wanted.items():
        row: dict[str, Any] = {"label": label, "psi": psi, "n": len(z_seeds)}
        for scorer in scorers:
            found = read_scores(bank.store, scorer, label, psi, z_seeds)
            if scorer.name == "features":
                finite = found["realism"][np.isfinite(found["realism"])]
                row |= {"realism": finite.mean(), "density": found["density"].mean()}
                row |= {"copies": int(found["copy"].sum())}
            elif scorer.name == "classifier":
                row |= {"agrees": found["agrees"].mean(), "confidence": found["confidence"].mean()}
            else:
                row |= {"logit": found["logit"].mean()}
        rows.append(row)
    return pd.DataFrame(rows)


def reference(
    scorers: Sequence[Scorer], dataset: Dataset, how: ScoreOptions = DEFAULT
) -> list[str]:
    """Return sentences on the scores of real images, for comparison with those of the fakes."""
    lines = []
    for scorer in scorers:
        if scorer.name == "discriminator":
            continue
        judge = judge_of(scorer, dataset, how, ProgressCounter())
        if isinstance(judge, FeatureJudge):
            lines += [_heldout_line(judge, label) for label in dataset.spec.labels]
        elif isinstance(judge, PackagedClassifier):
            lines.append(_out_of_fold_line(judge))
        elif isinstance(judge, KerasJudge):
            lines.append(_valid_line(judge, dataset))
        else:
            kept = network_scorers.kept_classifier(how.classifier)
            accuracy = kept.card.metrics.get("valid_acc") if kept else None
            known = "unknown" if accuracy is None else f"{accuracy:.1%}"
            lines.append(f"the classifier's validation accuracy in its search: {known}")
    return lines


def _valid_line(judge: KerasJudge, dataset: Dataset) -> str:
    shares = judge.agreement(dataset)
    if not shares:
        return "validation reals: none, so the judge's accuracy here is unknown"
    found = ", ".join(f"{label} {share:.1%}" for label, share in shares.items())
    return f"validation reals that the judge assigns to their own label: {found}"


def _out_of_fold_line(judge: PackagedClassifier) -> str:
    head = "training reals, by classifiers that never saw their patients:"
    try:
        shares = judge.out_of_fold().groupby("label")["agrees"].mean()
    except DataError:  # patients that cannot be divided into folds
        return f"{head} unknown, because a label has too few patients"
    return f"{head} {', '.join(f'{name} {share:.1%}' for name, share in shares.items())} agree"


def _heldout_line(judge: FeatureJudge, label: str) -> str:
    found = judge.heldout(label)
    if found is None:
        return f"validation reals of {label}: none, so only exact copies count as copies"
    finite = found["realism"][np.isfinite(found["realism"])]
    threshold = judge.threshold(label)
    fewest = math.ceil(1 / ALPHA) - 1
    copy = f"a copy is nearer to a training real than {threshold:.4g}"
    if len(found) < fewest:
        copy = f"fewer than {fewest}, so only exact copies count"
    return (
        f"validation reals of {label} ({len(found)}): mean realism {finite.mean():.3f}, density "
        f"{found['density'].mean():.3f}; {copy}"
    )
