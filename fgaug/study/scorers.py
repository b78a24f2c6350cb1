"""The scorers of a grid's filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgaug.bank import Scorer
from fgaug.data import Dataset
from fgaug.errors import UserError
from fgaug.grid.axes import Split
from fgaug.grid.filters import parse
from fgaug.grid.space import Scorers, Space
from fgaug.study.fake_needs import FakeNeeds
from fgaug.study.fake_source import FakeSource
from fgaug.study.plan import Plan

if TYPE_CHECKING:
    from fgaug.quality.scoring.score_bank import OwnBaseline, ScoreOptions


def scorer_of(
    name: str, space: Space, dataset: Dataset, source: FakeSource, baseline: str | None = None
) -> Scorer:
    """Return the scorer `name` as configured in the grid.

    `dataset` has the split to train the scorer on. `baseline` is the cell of this search whose
    model scores the fakes, if any.
    """
    from fgaug.quality.scoring import score_bank

    if name == "discriminator" and not source.generator.snapshots:
        raise UserError(
            f"`logit` needs the discriminator of a network, but `kind: "
            f"{source.generator.kind}` has none. Drop it from the filters."
        )
    own = baseline and score_bank.OwnBaseline(cell_id=baseline, file="")
    options = _score_options(space, source, own or None)
    return score_bank.scorer_of(name, dataset, options)


def judge_problems(space: Space, dataset: Dataset) -> list[str]:
    """Return the problem of a judge from a Keras file, after rebuilding it once.

    Nothing is rebuilt if no filter reads the judge.
    """
    from fgaug.quality.scoring.keras_judge import KerasJudge, file_at
    from fgaug.training.keras.process import shut_down

    scorers, filters = space.scorers, {text for axes in space.lists for text in axes.filter}
    used = any("classifier" in parse(text).scorers for text in filters)
    if scorers is None or scorers.judge is None or not used:
        return []
    try:
        KerasJudge(file_at(scorers.classifier), scorers.judge, dataset, "cpu")
    except UserError as error:
        return [f"`scorers.classifier`: {error}"]
    finally:
        shut_down()
    return []


def score_options_of(planned: Plan, needs: FakeNeeds, split: Split) -> ScoreOptions:
    """Return the options for scoring fakes of a split."""
    from fgaug.quality.scoring.score_bank import OwnBaseline

    cell_id = planned.scoring.get(split)
    if cell_id is None:
        return _score_options(planned.space, needs.source)
    file = str(planned.run.trial(cell_id).model)
    return _score_options(planned.space, needs.source, OwnBaseline(cell_id=cell_id, file=file))


def _score_options(
    space: Space, source: FakeSource, baseline: OwnBaseline | None = None
) -> ScoreOptions:
    from fgaug.quality.scoring.score_bank import ScoreOptions

    scorers, snapshots = space.scorers or Scorers(), source.generator.snapshots
    return ScoreOptions(
        features=scorers.features,
        classifier=scorers.classifier,
        judge=scorers.judge,
        baseline=baseline,
        discriminators=tuple((label, each.file) for label, each in snapshots.items()),
    )
