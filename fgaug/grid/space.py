"""Space: a grid as a frozen value, each field valid by itself; `grid_load` reads it from YAML."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from fgaug.core import paths
from fgaug.grid.analysis_plan import AnalysisPlan, BaselineSeeds, Confirmation
from fgaug.grid.axes import (
    MAX_POOL,
    Axes,
    Excluded,
    Included,
    Lists,
    Number,
    Removals,
    distinct,
)
from fgaug.grid.dataset_counts import DatasetCounts
from fgaug.grid.generators import Generator, SnapshotEntry
from fgaug.grid.recipe import Budget, Frozen, Recipe
from fgaug.grid.rounds import Rounds

Control = Literal["oversample", "drop", "random_subset"]
Logger = Literal["tensorboard", "mlflow", "wandb"]


class Scheduler(Frozen):
    """Early stopping: which arms train on, judged at equal shares of the budget.

    `arm_asha` halves arms at rungs, `race` adds seeds to arms round by round; both compare means
    over seeds. `asha` is Ray's own and compares single cells; what it stopped stays so under it
    and goes on under the others. None stops the baseline or a control.
    """

    type: Literal["none", "arm_asha", "race", "asha"] = "none"
    eta: Annotated[int, Field(strict=True, ge=2)] = 3  # of both asha: one in `eta` goes on
    rungs: Annotated[int, Field(strict=True, ge=1, le=10)] = 3  # levels, the full budget included
    min_seeds: Annotated[int, Field(strict=True, ge=1)] | None = None  # 2; of a race 3
    fast: bool = False  # race: .05 a round instead of .05 in all
    metric: Literal["auc", "acc", "loss"] = "auc"  # of the best validation look so far

    @model_validator(mode="after")
    def _single_cells_have_no_seeds(self) -> Scheduler:
        if self.type == "asha":
            keys = {"min_seeds": self.min_seeds is not None, "fast": self.fast}
            unfit = [f"`{key}`" for key, given in keys.items() if given]
            if unfit:
                raise ValueError(
                    f"`type: asha` compares single cells and takes no {' and no '.join(unfit)}; "
                    "drop it, or take `type: arm_asha` or `race`"
                )
        return self


class Resources(Frozen):
    """What one trial holds of a machine."""

    cpu: Annotated[Number, Field(gt=0)] = 1
    gpu: Annotated[Number, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _whole_above_one(self) -> Resources:
        for name in ("cpu", "gpu"):
            value = getattr(self, name)
            if value > 1 and not float(value).is_integer():
                raise ValueError(f"`{name}` above 1 must be a whole number, got {value:g}")
        return self


def _known_word(value: Any) -> Any:
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"must be `auto` or a mapping like {{cpu: 1, gpu: 0.25}}, got {value!r}")
    return value


def _resources_form(value: Any) -> str:
    return "[auto]" if value == "auto" else "[mapping]"


ResourcesOrAuto = Annotated[
    Annotated[Literal["auto"], Tag("[auto]")] | Annotated[Resources, Tag("[mapping]")],
    Discriminator(_resources_form),
    BeforeValidator(_known_word),
]


class Scorers(Frozen):
    """Which networks give the scores that filters read; see `fgaug bank score`."""

    features: Annotated[str, Field(min_length=1)] = "lite0"  # of realism, density, copies
    # or model:FILE, one kept by a search; or baseline: this search's own, trained first
    classifier: Annotated[str, Field(min_length=1)] = "lite0"


class Space(Frozen):
    """A grid: what to train, from which images and fakes, for how long, on what.

    Fields are validated one by one; `grid_fit.problems_of` returns what is wrong between them.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    dataset: str
    # of a dataset that cannot be had: a dry run without it goes by them, nothing else does
    counts: DatasetCounts | None = None
    bank: str | None = None
    generator: Generator | None = None
    pool: Annotated[int, Field(strict=True, ge=1, le=MAX_POOL)] = 30000
    axes: Axes
    exclude: list[Excluded] = Field(default_factory=list)
    include: list[Included] = Field(default_factory=list)
    cells: Annotated[int, Field(strict=True, ge=1)] | None = None  # as many as are meant; checked
    scorers: Scorers | None = None  # None: the packaged ones
    remove: Removals | None = None
    remove_by: Literal["image", "group"] = "image"
    rounds: Rounds | None = None  # of synthetic arms: fresh fakes again and again, no ratio
    # twins: repeated reals, removals alone, as many fakes as a filter chose but chosen by none
    controls: Annotated[list[Control], AfterValidator(distinct)] = Field(default_factory=list)
    recipe: Recipe = Recipe()
    budget: Budget = Budget()
    scheduler: Scheduler = Scheduler()
    # seconds of training after which a search pauses what runs and ends; the next goes on
    time_budget: Annotated[Number, Field(gt=0)] | None = None
    resources: ResourcesOrAuto = Resources()
    keep_models: Literal["none", "best", "all"] = "none"  # best: of each arm, by valid_auc
    analysis: AnalysisPlan = AnalysisPlan()
    confirmation: Confirmation | None = None
    # of each baseline: as many as its arms have, unless it is to be known better than they are
    baseline_seeds: BaselineSeeds | None = None
    # other programs that are told what trials report
    loggers: Annotated[list[Logger], AfterValidator(distinct)] = Field(default_factory=list)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every arm."""
        return self.axes.seeds

    @property
    def lists(self) -> tuple[Lists, ...]:
        """The axes, and those of each entry of `include`."""
        return (self.axes, *self.include)

    @property
    def snapshot_entries(self) -> tuple[SnapshotEntry, ...]:
        """What makes the fakes: each value of the axis `snapshot`, or the one without a name."""
        if self.axes.snapshot or self.bank is None or self.generator is None:
            return tuple(self.axes.snapshot)
        return (SnapshotEntry(generator=self.generator, bank=self.bank),)

    @property
    def removals(self) -> tuple[Removals, ...]:
        """The removals that replacement arms go through."""
        return tuple(self.axes.remove) or ((self.remove,) if self.remove else ())

    def to_yaml(self) -> str:
        """Return the resolved grid: defaults written out, seeds drawn."""
        value = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if self.baseline_seeds is None:  # else the rest of a draw is the baseline's
            value["axes"]["seed"] = list(self.seeds)
        for key, entries in (("exclude", self.exclude), ("include", self.include)):
            value[key] = [_resolved(entry) for entry in entries]
            if not entries:
                del value[key]
        for part in (value, *value["axes"]["snapshot"]):
            if "bank" in part:
                part["bank"] = paths.without_secrets(part["bank"])
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _resolved(entry: Included | Excluded) -> dict[str, Any]:
    """Return what an entry names, seeds drawn: what it leaves out stays the grid's."""
    written = entry.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(entry, Included) and entry.seed:
        written["seed"] = list(entry.seeds)
    return written
