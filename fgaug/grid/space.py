"""Space: a grid as a frozen value; `load` reads it from YAML, `checks` validates it as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from fgaug.core import paths
from fgaug.core.split_names import PREPARED, fold_split
from fgaug.grid.analysis_plan import AnalysisPlan, BaselineSeeds, Confirmation
from fgaug.grid.axes import (
    MAX_POOL,
    Axes,
    Excluded,
    Included,
    Lists,
    Number,
    Removals,
    Split,
    distinct,
)
from fgaug.grid.dataset_counts import DatasetCounts
from fgaug.grid.generators import Generator, SnapshotEntry
from fgaug.grid.preparations import Preparation
from fgaug.grid.recipe import Budget, Frozen, Recipe
from fgaug.grid.rounds import Rounds

Control = Literal["oversample", "drop", "random_subset"]
Logger = Literal["tensorboard", "mlflow", "wandb"]


class Scheduler(Frozen):
    """Stops unpromising arms early, at equal fractions of the budget.

    `arm_asha` halves the arms at each rung and `race` adds seeds to arms round by round; both
    compare means over seeds. `asha` is Ray's own scheduler and compares single cells; the cells
    it stopped resume under the other schedulers. No scheduler stops baselines or controls.
    """

    type: Literal["none", "arm_asha", "race", "asha"] = "none"
    eta: Annotated[int, Field(strict=True, ge=2)] = 3  # both asha types: one in `eta` continues
    rungs: Annotated[int, Field(strict=True, ge=1, le=10)] = 3  # levels, including the full budget
    min_seeds: Annotated[int, Field(strict=True, ge=1)] | None = None  # default 2, for `race` 3
    fast: bool = False  # race: alpha .05 per round instead of .05 in total
    metric: Literal["auc", "acc", "loss"] = "auc"  # of the best validation result so far

    @model_validator(mode="after")
    def _single_cells_have_no_seeds(self) -> Scheduler:
        if self.type == "asha":
            keys = {"min_seeds": self.min_seeds is not None, "fast": self.fast}
            unfit = [f"`{key}`" for key, given in keys.items() if given]
            if unfit:
                raise ValueError(
                    f"`type: asha` compares single cells and takes no {' and no '.join(unfit)}; "
                    "drop it, or use `type: arm_asha` or `race`"
                )
        return self


class Resources(Frozen):
    """CPU cores and GPUs per trial."""

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


KERAS_FILES = (".h5", ".hdf5", ".keras")


class JudgeNetwork(Frozen):
    """What the file of a classifier saved by Keras does not say about itself."""

    # in the order of its outputs
    labels: Annotated[list[str], Field(min_length=2), AfterValidator(distinct)]
    model: Annotated[str, Field(min_length=1)] = "InceptionResNetV2"  # of keras.applications
    scaling: Literal["unit", "model"] = "unit"  # pixels / 255, or the model's own preprocessing
    # px of its images; needed if the file does not state it
    size: Annotated[int, Field(strict=True, ge=8, le=2048)] | None = None


class Scorers(Frozen):
    """The networks behind the scores that filters read; see `fgaug bank score`."""

    features: Annotated[str, Field(min_length=1)] = "lite0"  # for realism, density and copies
    # or model:FILE, saved by a search; or baseline: trained first by this search; or a file saved
    # by Keras, which `judge` describes
    classifier: Annotated[str, Field(min_length=1)] = "lite0"
    judge: JudgeNetwork | None = None

    @model_validator(mode="after")
    def _judge_of_a_file(self) -> Self:
        keras = paths.name_of(self.classifier).endswith(KERAS_FILES)
        if keras and self.judge is None:
            raise ValueError(
                f"`classifier: {self.classifier}` is a file of Keras, which does not name its "
                "labels. Add `judge: {labels: [...]}` in the order of its outputs"
            )
        if self.judge is not None and not keras:
            raise ValueError(
                "`judge` describes a `classifier` file saved by Keras "
                f"({', '.join(KERAS_FILES)}), got `classifier: {self.classifier}`; drop `judge`"
            )
        return self


class Space(Frozen):
    """A grid: what to train, on which images and fakes, for how long and with which resources.

    Fields are validated one by one; `checks.problems_of` finds conflicts between them.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    dataset: str
    # counts for a dry run without the dataset; nothing else uses them
    counts: DatasetCounts | None = None
    bank: str | None = None
    generator: Generator | None = None
    pool: Annotated[int, Field(strict=True, ge=1, le=MAX_POOL)] = 30000
    axes: Axes
    exclude: list[Excluded] = Field(default_factory=list)
    include: list[Included] = Field(default_factory=list)
    # the expected number of cells, checked
    cells: Annotated[int, Field(strict=True, ge=1)] | None = None
    scorers: Scorers | None = None  # None: the packaged networks
    remove: Removals | None = None
    remove_by: Literal["image", "group"] = "image"
    rounds: Rounds | None = None  # synthetic arms: fresh fakes each round, no ratio
    # matched controls: repeated reals, removals only, or as many fakes without the filter
    controls: Annotated[list[Control], AfterValidator(distinct)] = Field(default_factory=list)
    recipe: Recipe = Recipe()
    budget: Budget = Budget()
    scheduler: Scheduler = Scheduler()
    # seconds of training after which a search pauses its trials and exits; the next resumes
    time_budget: Annotated[Number, Field(gt=0)] | None = None
    resources: ResourcesOrAuto = Resources()
    keep_models: Literal["none", "best", "all"] = "none"  # best: the best of each arm by valid_auc
    analysis: AnalysisPlan = AnalysisPlan()
    confirmation: Confirmation | None = None
    # seeds per baseline (default: as many as an arm's)
    baseline_seeds: BaselineSeeds | None = None
    # experiment trackers that also receive the results
    loggers: Annotated[list[Logger], AfterValidator(distinct)] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _first_preparation(cls, raw: Any) -> Any:
        """Take the first value of `axes.dataset` for `dataset`, unless it is given."""
        axes = raw.get("axes") if isinstance(raw, dict) else None
        named = axes.get("dataset") if isinstance(axes, dict) else None
        if not isinstance(named, dict) or not named or "dataset" in raw:
            return raw
        first = next(iter(named.values()))
        return {**raw, "dataset": first.get("path") if isinstance(first, dict) else first}

    @property
    def preparations(self) -> Mapping[str, Preparation]:
        """The values of the axis `dataset` by name; empty without it."""
        return self.axes.dataset or {}

    def on(self, name: str) -> Space:
        """Return the grid of one value of the axis `dataset`, without that axis."""
        entry = self.preparations[name]
        return self.model_copy(
            update={
                "dataset": entry.path,
                "bank": entry.bank,
                "generator": entry.generator or self.generator,
                "axes": self.axes.model_copy(update={"dataset": None}),
            }
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every arm."""
        return self.axes.seeds

    @property
    def psis(self) -> tuple[float, ...]:
        """Every psi of the axes, including those of single labels, ascending."""
        values = (psi for axes in self.lists for psi in axes.psi)
        parts = (psi.values() if isinstance(psi, dict) else (psi,) for psi in values)
        return tuple(sorted({float(psi) for part in parts for psi in part}))

    @property
    def lists(self) -> tuple[Lists, ...]:
        """The axes, then each entry of `include`."""
        return (self.axes, *self.include)

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds to hold out; empty without the axis, or before `with_folds` resolves `all`."""
        named = self.axes.fold
        return tuple(named) if isinstance(named, list) else ()

    def with_folds(self, known: Sequence[int]) -> Space:
        """Return the grid with `axes.fold: all` replaced by the dataset's folds."""
        if self.axes.fold != "all":
            return self
        axes = self.axes.model_copy(update={"fold": list(known)})
        return self.model_copy(update={"axes": axes})

    def splits_of(self, axes: Lists) -> tuple[Split, ...]:
        """Return the splits that the cells of the axes, or of an entry of `include`, train on."""
        if self.axes.fold == "all":
            return (PREPARED,)  # a stand-in, until the dataset's folds are known
        return tuple(map(fold_split, self.folds)) or tuple(axes.split)

    @property
    def snapshot_entries(self) -> tuple[SnapshotEntry, ...]:
        """The generators: the values of the axis `snapshot`, or the unnamed one of the grid."""
        if self.preparations:  # each has a generator, or none has
            return self.on(next(iter(self.preparations))).snapshot_entries
        if self.axes.snapshot or self.bank is None or self.generator is None:
            return tuple(self.axes.snapshot)
        return (SnapshotEntry(generator=self.generator, bank=self.bank),)

    @property
    def removals(self) -> tuple[Removals, ...]:
        """The removals of replacement arms."""
        return tuple(self.axes.remove) or ((self.remove,) if self.remove else ())

    def to_yaml(self) -> str:
        """Return the resolved grid: defaults written out, seeds drawn."""
        value = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if self.baseline_seeds is None:  # else baselines need the rest of the draw
            value["axes"]["seed"] = list(self.seeds)
        for key, entries in (("exclude", self.exclude), ("include", self.include)):
            value[key] = [_resolved(entry) for entry in entries]
            if not entries:
                del value[key]
        return yaml.safe_dump(_without_secrets(value), sort_keys=False, allow_unicode=True)


def _without_secrets(value: Any) -> Any:
    """Return a value of YAML without the credentials of any URI in it."""
    if isinstance(value, str):
        return paths.without_secrets(value)
    if isinstance(value, dict):
        return {key: _without_secrets(each) for key, each in value.items()}
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value


def _resolved(entry: Included | Excluded) -> dict[str, Any]:
    """Return an entry's own keys with its seeds drawn; omitted keys stay omitted."""
    written = entry.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(entry, Included) and entry.seed:
        written["seed"] = list(entry.seeds)
    return written
