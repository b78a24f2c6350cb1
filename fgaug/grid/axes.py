"""The axes of a grid, whose combinations are its cells; entries of `include` and `exclude`."""

from __future__ import annotations

import random
from collections.abc import Mapping
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
from fgaug.grid.recipe import Frozen, Recipe

NO_AMOUNT = "`axes.ratio` (or `fakes`) is missing or empty, but a mode uses fakes"
MAX_POOL = 10_000_000  # fakes a label; each draw permutes the whole pool: 80 MB
Mode = Literal["baseline", "augmentation", "replacement", "synthetic"]
Removal = Literal["all"] | float
Split = Literal["dataset"] | int  # as prepared, or the seed of another draw of its patients
Counts = dict[str, Annotated[int, Field(strict=True, ge=0)]]
AnyMode = Literal["baseline", "augmentation", "replacement", "synthetic", "oversample", "drop"]
_nothing: Any = Field(default_factory=list)  # a key that is not given


def usable_psi(psi: float) -> float:
    if psi == 0:
        raise ValueError("`psi` 0 gives one image for every seed; use a value above or below 0")
    if not 1e-6 <= abs(psi) <= 1000:
        raise ValueError(f"must lie from 0.000001 to 1000, got {psi:g}; 0.3 to 1 are common")
    return psi


def distinct(values: list[Any]) -> list[Any]:
    """Return a list of distinct values; refuse one that repeats some."""
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"values repeat: {', '.join(repeated)}")
    return values


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic takes true for 1.0
        raise ValueError(f"must be a number, got {value}")
    return value


def _removal(asked: Any) -> Removal:
    if asked == "all":
        return "all"
    number = isinstance(asked, (int, float)) and not isinstance(asked, bool)
    if not number or not 0 < asked < 2**32 or (asked > 1 and asked != int(asked)):
        raise ValueError(f"must be a count, a share below 1 or `all`, got {asked!r}")
    return float(asked)


def _split(asked: Any) -> Split:
    whole = isinstance(asked, int) and not isinstance(asked, bool)
    if asked != "dataset" and not (whole and 0 <= asked < 2**32):
        raise ValueError(
            f"must be `dataset` or a whole number from 0 to {2**32 - 1}, got {asked!r}"
        )
    split: Split = asked
    return split


def _filter(asked: Any) -> str:
    if not isinstance(asked, str):
        raise ValueError(f"must be text such as `agrees` or `confidence>=0.5`, got {asked!r}")
    try:
        return filters.parse(asked).text
    except UserError as error:
        raise ValueError(str(error).removesuffix(".")) from None


Removals = dict[str, Annotated[Removal, PlainValidator(_removal)]]

Number = Annotated[float, BeforeValidator(_no_bool)]

Psi = Annotated[Number, AfterValidator(usable_psi)]

Ratio = Annotated[Number, Field(gt=0)]

Share = Annotated[Number, Field(gt=0, le=1)]

SplitChoice = Annotated[Split, PlainValidator(_split)]

FilterText = Annotated[str, PlainValidator(_filter)]  # canonical, see `filters`

Distinct = AfterValidator(distinct)

Some = Field(min_length=1)  # a key that is given names something


class SeedSample(Frozen):
    """`random.Random(rng).sample(range(from), sample)`, as the fetal-brain study drew them."""

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
    """Lists whose combinations are cells, of whichever snapshots: see `Axes` and `Included`."""

    mode: Annotated[list[Mode], Some, Distinct]
    psi: Annotated[list[Psi], Distinct] = Field(default_factory=list)
    ratio: Annotated[list[Ratio], Distinct] = Field(default_factory=list)
    fakes: Annotated[list[Counts], Distinct] = Field(default_factory=list)
    # which fakes are used, by their scores: `none`, `agrees`, `realism>=1 and margin>=0.2`
    filter: Annotated[list[FilterText], Some, Distinct] = Field(default_factory=_every_fake)
    seed: SeedAxis
    remove: Annotated[list[Removals], Distinct] = Field(default_factory=list)
    # who trains and who validates: as prepared, or the patients outside the test set drawn anew
    split: Annotated[list[SplitChoice], Some, Distinct] = Field(default_factory=_as_prepared)
    # the share of the patients whose images train; ratios count the images of all of them
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
        """The seeds, drawn where they are to be."""
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

    # what makes the fakes, instead of the grid's `generator` and `bank`
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
    """Return what axes say of each other, and of recipes; `axes` may be wrong otherwise."""
    problems = []
    if axes.get("ratio") and axes.get("fakes"):
        problems.append("`axes`: give `ratio` or `fakes`, not both")
    if uses_fakes(axes):
        if not axes.get("psi"):
            problems.append("`axes.psi` is missing or empty, but a mode uses fakes")
        modes = {mode for mode in axes["mode"] if isinstance(mode, str)}
        # whether synthetic arms need one hangs on `rounds`: see `space_misfits`
        if modes - {"baseline", "synthetic"} and not has_amounts(axes):
            problems.append(NO_AMOUNT)
    fields = axes.get("recipe")
    for field, values in fields.items() if isinstance(fields, dict) else ():
        problems += bad_recipe_values(str(field), values if isinstance(values, list) else [])
    return problems


def has_amounts(axes: Mapping[str, Any]) -> bool:
    """Return whether axes say how many fakes; `axes` may be wrong otherwise."""
    return bool(axes.get("ratio") or axes.get("fakes"))


def uses_fakes(axes: Mapping[str, Any]) -> bool:
    """Return whether any mode trains on fakes; `axes` may be wrong otherwise."""
    modes = axes.get("mode")
    return isinstance(modes, list) and any(mode != "baseline" for mode in modes)


def bad_recipe_values(field: str, values: list[Any], root: str = "axes") -> list[str]:
    """Return what a recipe says of values of one of its fields, given below the key `root`."""
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
    """Points beside the axes: one value of each axis, or a list of them to combine.

    What it leaves out is the grid's: seeds, snapshots, removals, the fields of `recipe`; the
    dataset's split, all its patients and fakes that no filter chose.
    """

    seed: SeedAxis = _nothing
    snapshot: Annotated[list[str], Some, Distinct] = _nothing  # by their names

    @model_validator(mode="before")
    @classmethod
    def _single_values(cls, raw: Any) -> Any:
        return as_lists(raw)


class Excluded(Frozen):
    """What to take out: the cells that have one of the named values on every named axis."""

    mode: Annotated[list[AnyMode], Some, Distinct] = _nothing
    snapshot: Annotated[list[str], Some, Distinct] = _nothing  # by their names
    psi: Annotated[list[Psi], Some, Distinct] = _nothing
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
            problems.append("`exclude` names no axis, and would take out every cell. Drop it")
        if problems:
            raise Misfits(problems, root="exclude")
        return self

    @property
    def named(self) -> dict[str, list[Any]]:
        """The values it names by axis, as cells have them: `recipe.model`, counts as pairs."""
        values: dict[str, list[Any]] = {
            name: list(getattr(self, name))
            for name in Excluded.model_fields
            if name != "recipe" and getattr(self, name)
        }
        for name in ("fakes", "remove"):
            if name in values:
                values[name] = [tuple(sorted(counts.items())) for counts in values[name]]
        for field, given in self.recipe.items():
            read = [getattr(Recipe.model_validate({field: value}), field) for value in given]
            values[f"recipe.{field}"] = read
        return values


def as_lists(raw: Any) -> Any:
    """Return an entry with each single value in a list of its own."""
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
    """Return whether a list is one value of a recipe's field, as an augmentation's steps are."""
    if not isinstance(value, list) or not value or field not in Recipe.model_fields:
        return False
    try:
        Recipe.model_validate({field: value})
    except ValidationError:
        return False
    return True
