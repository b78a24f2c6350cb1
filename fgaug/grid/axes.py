"""The axes of a grid, and the entries of `include` and `exclude`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    StrictInt,
    Tag,
    ValidationError,
    model_validator,
)

from fgaug.errors import UserError
from fgaug.grid import filters
from fgaug.grid.generators import SnapshotEntry, with_names
from fgaug.grid.messages import Misfits, near, one_line_each
from fgaug.grid.preparations import Preparations
from fgaug.grid.recipe import Frozen, Recipe

NO_AMOUNT = "`axes.ratio` (or `axes.fakes`) is missing or empty, but a mode uses fakes"
MAX_POOL = 10_000_000  # fakes per label; each draw permutes the whole pool (80 MB)
Mode = Literal["baseline", "augmentation", "replacement", "synthetic"]
Removal = Literal["all"] | float
# as prepared, the seed of a resplit by patient, or `fold-3`: see `fgaug.core.split_names`
Split = int | str
Counts = dict[str, Annotated[int, Field(strict=True, ge=0)]]
AnyMode = Literal["baseline", "augmentation", "replacement", "synthetic", "oversample", "drop"]
_nothing: Any = Field(default_factory=list)  # the default of omitted keys


def usable_psi(psi: float) -> float:
    """Return a valid truncation psi.

    Raises:
        ValueError: psi is 0, or its absolute value lies outside 1e-6 to 1000.
    """
    if psi == 0:
        raise ValueError("`psi` 0 gives one image for every seed; use a value above or below 0")
    if not 1e-6 <= abs(psi) <= 1000:
        raise ValueError(f"must be between 0.000001 and 1000, got {psi:g}; 0.3 to 1 are common")
    return psi


PsiByLabel = dict[str, float]


def psi_parts(
    psi: float | PsiByLabel,
) -> tuple[float | None, tuple[tuple[str, float], ...] | None]:
    """Return (psi, None) for one psi of all labels, else (None, psi by label)."""
    if not isinstance(psi, Mapping):
        return psi, None
    if len(psi) > 1 and len(set(psi.values())) == 1:  # the same cell as with a number
        return next(iter(psi.values())), None
    return None, tuple(sorted(psi.items()))


def distinct(values: list[Any]) -> list[Any]:
    """Return a list whose values are all distinct; raise ValueError on repeated values."""
    count: Callable[[Any], int]
    try:
        count = Counter(values).__getitem__
    except TypeError:  # values by label have no hash; such lists are short
        count = values.count
    repeated = sorted({str(value) for value in values if count(value) > 1})
    if repeated:
        raise ValueError(f"values repeat: {', '.join(repeated)}")
    return values


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would read true as 1.0
        raise ValueError(f"must be a number, got {value}")
    return value


def _removal(value: Any) -> Removal:
    if value == "all":
        return "all"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < 2**32 or (value > 1 and value != int(value)):
        raise ValueError(f"must be a count, a fraction below 1 or `all`, got {value!r}")
    return float(value)


def _split(value: Any) -> Split:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value != "dataset" and not (whole and 0 <= value < 2**32):
        raise ValueError(
            f"must be `dataset` or a whole number from 0 to {2**32 - 1}, got {value!r}"
        )
    split: Split = value
    return split


def _folds(value: Any) -> list[int] | Literal["all"] | None:
    if value is None or value == "all":
        return None if value is None else "all"
    if not isinstance(value, list) or not value:
        raise ValueError(f"must be `all` or a list of the dataset's folds, got {value!r}")
    wrong = [x for x in value if isinstance(x, bool) or not isinstance(x, int) or x < 0]
    if wrong:
        raise ValueError(
            f"must hold whole numbers, as in the column of the folds; got {wrong[0]!r}"
        )
    return distinct(value)


def _filter(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text such as `agrees` or `confidence>=0.5`, got {value!r}")
    try:
        return filters.parse(value).text
    except UserError as error:
        raise ValueError(str(error).removesuffix(".")) from None


Removals = dict[str, Annotated[Removal, PlainValidator(_removal)]]
Number = Annotated[float, BeforeValidator(_no_bool)]
Psi = Annotated[Number, AfterValidator(usable_psi)]
Ratio = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(gt=0, le=1)]
SplitChoice = Annotated[Split, PlainValidator(_split)]
Folds = Annotated[list[int] | Literal["all"] | None, PlainValidator(_folds)]
FilterText = Annotated[str, PlainValidator(_filter)]  # in canonical form, see `filters`
Distinct = AfterValidator(distinct)
Some = Field(min_length=1)  # a key must not be empty


def _psi_form(value: Any) -> str:
    return "[labels]" if isinstance(value, Mapping) else "[number]"


PsiOfArm = Annotated[
    Annotated[Psi, Tag("[number]")] | Annotated[dict[str, Psi], Some, Tag("[labels]")],
    Discriminator(_psi_form),
]


class SeedSample(Frozen):
    """Seeds drawn by `random.Random(rng).sample(range(from), sample)`, as in the fetal study."""

    sample: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    population: Annotated[int, Field(strict=True, ge=1, le=2**32, alias="from")] = 1000
    rng: StrictInt = 19

    @model_validator(mode="after")
    def _enough(self) -> SeedSample:
        if self.sample > self.population:
            raise ValueError(f"cannot draw {self.sample} distinct seeds from {self.population}")
        return self


Seed = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(distinct)]


def _seed_form(value: Any) -> str:
    return "SeedSample" if isinstance(value, (dict, SeedSample)) else "list[Seed]"


SeedAxis = Annotated[
    Annotated[Seeds, Tag("list[Seed]")] | Annotated[SeedSample, Tag("SeedSample")],
    Discriminator(_seed_form),
]


def _as_prepared() -> list[Split]:
    return ["dataset"]


def _every_fake() -> list[str]:
    return [filters.NONE]


class Lists(Frozen):
    """The lists of values that `Axes` and `Included` share; their combinations are cells."""

    mode: Annotated[list[Mode], Some, Distinct]
    # one for all labels, or one for each: 1.6, {benign: 1.6, malignant: 1.2}
    psi: Annotated[list[PsiOfArm], Distinct] = Field(default_factory=list)
    ratio: Annotated[list[Ratio], Distinct] = Field(default_factory=list)
    fakes: Annotated[list[Counts], Distinct] = Field(default_factory=list)
    # selects fakes by their scores: `none`, `agrees`, `realism>=1 and margin>=0.2`
    filter: Annotated[list[FilterText], Some, Distinct] = Field(default_factory=_every_fake)
    seed: SeedAxis
    remove: Annotated[list[Removals], Distinct] = Field(default_factory=list)
    # training and validation patients: as prepared, or resplit outside the test set
    split: Annotated[list[SplitChoice], Some, Distinct] = Field(default_factory=_as_prepared)
    # fraction of the training patients to use; ratios still refer to all training images
    real_fraction: Annotated[list[Share], Some, Distinct] = Field(default_factory=lambda: [1.0])
    recipe: dict[str, Annotated[list[Any], Some, Distinct]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_recipe_fields(cls, raw: Any) -> Any:
        return with_recipe_fields(raw)

    @model_validator(mode="after")
    def _needed_together(self) -> Self:
        problems = axes_misfits(dict(self))
        if problems:
            raise Misfits(problems, root="axes")
        return self

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, listed or drawn."""
        if isinstance(self.seed, SeedSample):
            drawn = random.Random(self.seed.rng)
            return tuple(drawn.sample(range(self.seed.population), self.seed.sample))
        return tuple(self.seed)

    @property
    def amounts(self) -> tuple[tuple[float | None, Counts | None], ...]:
        """(ratio, None) or (None, counts by label) for each amount of fakes."""
        if self.fakes:
            return tuple((None, counts) for counts in self.fakes)
        return tuple((ratio, None) for ratio in self.ratio)


class Axes(Lists):
    """The lists whose combinations are the grid's cells."""

    # each arm and seed trains once per fold, which it does not see; the predictions are pooled
    fold: Folds = None
    # several preparations of the grid's patients, such as crops and whole images, by name
    dataset: Preparations | None = None

    # generators and banks, replacing the grid's `generator` and `bank`
    snapshot: Annotated[list[SnapshotEntry], AfterValidator(with_names)] = Field(
        default_factory=list
    )


def with_recipe_fields(raw: Any) -> Any:
    """Return axes with `recipe.model: [...]` moved into `recipe: {model: [...]}`."""
    if not isinstance(raw, dict):
        return raw
    gathered = {k: v for k, v in raw.items() if not str(k).startswith("recipe.")}
    fields = {
        str(k).removeprefix("recipe."): v for k, v in raw.items() if str(k).startswith("recipe.")
    }
    if fields:
        inner = gathered.get("recipe", {})
        gathered["recipe"] = {**fields, **inner} if isinstance(inner, dict) else inner
    return gathered


def axes_misfits(axes: Mapping[str, Any]) -> list[str]:
    """Return conflicts among axes and invalid recipe values; `axes` may have other errors."""
    problems = []
    if axes.get("ratio") and axes.get("fakes"):
        problems.append("`axes`: give `ratio` or `fakes`, not both")
    if uses_fakes(axes):
        if not axes.get("psi"):
            problems.append("`axes.psi` is missing or empty, but a mode uses fakes")
        modes = {mode for mode in axes["mode"] if isinstance(mode, str)}
        # synthetic arms with `rounds` need no amount: see `space_misfits`
        if modes - {"baseline", "synthetic"} and not has_amounts(axes):
            problems.append(NO_AMOUNT)
    fields = axes.get("recipe")
    for field, values in fields.items() if isinstance(fields, dict) else ():
        problems += bad_recipe_values(str(field), values if isinstance(values, list) else [])
    return problems


def has_amounts(axes: Mapping[str, Any]) -> bool:
    """Return whether axes give an amount of fakes; `axes` may have other errors."""
    return bool(axes.get("ratio") or axes.get("fakes"))


def uses_fakes(axes: Mapping[str, Any]) -> bool:
    """Return whether any mode trains on fakes; `axes` may have other errors."""
    modes = axes.get("mode")
    return isinstance(modes, list) and any(mode != "baseline" for mode in modes)


def bad_recipe_values(field: str, values: list[Any], root: str = "axes") -> list[str]:
    """Return the problems of values for one recipe field, given below the key `root`."""
    if field not in Recipe.model_fields:
        guess = near(field, Recipe.model_fields)
        return [f"`{root}.recipe.{field}`: unknown recipe field{guess}"]
    problems = []
    for value in values:
        try:
            Recipe.model_validate(
                {field: value} | ({"backend": field} if field == "keras" else {})
            )
        except ValidationError as error:
            problems += [line.replace("`", f"`{root}.recipe.", 1) for line in one_line_each(error)]
    return problems


class Included(Lists):
    """Extra points besides the axes: for each axis one value, or a list of values to combine.

    Omitted keys take the grid's seeds, snapshots, removals and recipe, the dataset's own split,
    all patients and no filter.
    """

    seed: SeedAxis = _nothing
    snapshot: Annotated[list[str], Some, Distinct] = _nothing  # by name

    @model_validator(mode="before")
    @classmethod
    def _single_values(cls, raw: Any) -> Any:
        return as_lists(raw)


class Excluded(Frozen):
    """Cells to remove: those with one of the listed values on every listed axis."""

    mode: Annotated[list[AnyMode], Some, Distinct] = _nothing
    snapshot: Annotated[list[str], Some, Distinct] = _nothing  # by name
    psi: Annotated[list[PsiOfArm], Some, Distinct] = _nothing
    ratio: Annotated[list[Ratio], Some, Distinct] = _nothing
    fakes: Annotated[list[Counts], Some, Distinct] = _nothing
    filter: Annotated[list[FilterText], Some, Distinct] = _nothing
    seed: Seeds = _nothing
    remove: Annotated[list[Removals], Some, Distinct] = _nothing
    split: Annotated[list[SplitChoice], Some, Distinct] = _nothing
    real_fraction: Annotated[list[Share], Some, Distinct] = _nothing
    recipe: dict[str, Annotated[list[Any], Some, Distinct]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _single_values(cls, raw: Any) -> Any:
        return as_lists(raw)

    @model_validator(mode="after")
    def _names_something(self) -> Excluded:
        problems = [
            line
            for field, values in self.recipe.items()
            for line in bad_recipe_values(field, values, root="exclude")
        ]
        if not self.model_fields_set or (self.model_fields_set == {"recipe"} and not self.recipe):
            problems.append("`exclude` names no axis and would remove every cell. Drop it")
        if problems:
            raise Misfits(problems, root="exclude")
        return self

    @property
    def named(self) -> dict[str, list[Any]]:
        """The listed values by axis, in the form cells use: `recipe.model`, counts as pairs."""
        values: dict[str, list[Any]] = {
            name: list(getattr(self, name))
            for name in Excluded.model_fields
            if name != "recipe" and getattr(self, name)
        }
        for name in ("fakes", "remove"):
            if name in values:
                values[name] = [tuple(sorted(counts.items())) for counts in values[name]]
        if "psi" in values:  # as `Point.value` has it
            parts = [psi_parts(given) for given in values["psi"]]
            values["psi"] = [by_label if psi is None else psi for psi, by_label in parts]
        for field, given in self.recipe.items():
            read = [getattr(Recipe.model_validate({field: value}), field) for value in given]
            values[f"recipe.{field}"] = read
        return values


def as_lists(raw: Any) -> Any:
    """Return an entry with every single value wrapped in a list."""
    raw = with_recipe_fields(raw)
    if not isinstance(raw, dict):
        return raw
    lists = {
        name: value if _is_sample(name, value) else _listed(value) for name, value in raw.items()
    }
    if isinstance(raw.get("recipe"), dict):
        lists["recipe"] = {
            field: [value] if _is_one_value(str(field), value) else _listed(value)
            for field, value in raw["recipe"].items()
        }
    elif "recipe" in raw:
        lists["recipe"] = raw["recipe"]
    return lists


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_sample(name: str, value: Any) -> bool:
    return name == "seed" and isinstance(value, (dict, SeedSample))


def _is_one_value(field: str, value: Any) -> bool:
    """Return whether a list is a single value of a recipe field, such as augmentation steps."""
    if not isinstance(value, list) or not value or field not in Recipe.model_fields:
        return False
    try:
        Recipe.model_validate({field: value})
    except ValidationError:
        return False
    return True
