"""Entries of `include` and `exclude`: points beside the axes, and cells to take out.

YAML -> [entries] -> points
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from fgaug.axes import (
    Counts,
    Distinct,
    FilterText,
    Lists,
    Psi,
    Ratio,
    Removals,
    SeedAxis,
    Seeds,
    SeedSample,
    Share,
    Some,
    SplitChoice,
    bad_recipe_values,
    with_recipe_fields,
)
from fgaug.grid_errors import Misfits
from fgaug.recipe import Frozen, Recipe

AnyMode = Literal["baseline", "augmentation", "replacement", "synthetic", "oversample", "drop"]
_nothing: Any = Field(default_factory=list)  # a key that is not given


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
