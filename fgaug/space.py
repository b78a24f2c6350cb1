"""The grid file: YAML -> a frozen Space, every problem of it reported at once.  [space] -> cells"""

from __future__ import annotations

import difflib
import random
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    model_validator,
)

from fgaug.errors import GridError
from fgaug.recipe import Budget, Recipe
from fgaug.yaml_file import read_yaml

Mode = Literal["baseline", "augmentation", "replacement", "synthetic"]
Removal = Literal["all"] | Annotated[float, Field(gt=0)]
Counts = dict[str, Annotated[int, Field(strict=True, ge=0)]]
GRID = "${grid}"  # in a path: the grid file's folder


def _not_zero(psi: float) -> float:
    if psi == 0:
        raise ValueError("`psi` 0 gives one image for every seed; use a value above or below 0")
    return psi


def _distinct(values: list[Any]) -> list[Any]:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"values repeat: {', '.join(repeated)}")
    return values


def _whole_counts(removal: Removal) -> Removal:
    if isinstance(removal, float) and removal > 1 and not removal.is_integer():
        raise ValueError(f"a count is a whole number, a share is below 1, got {removal:g}")
    return removal


Removals = dict[str, Annotated[Removal, AfterValidator(_whole_counts)]]
Psi = Annotated[float, AfterValidator(_not_zero)]
Ratio = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SeedSample(_Frozen):
    """`random.Random(rng).sample(range(from), sample)`: how the fetal-brain study drew its seeds."""

    sample: Annotated[int, Field(strict=True, ge=1)]
    population: Annotated[int, Field(strict=True, ge=1, alias="from")] = 1000
    rng: StrictInt = 19

    @model_validator(mode="after")
    def _enough(self) -> SeedSample:
        if self.sample > self.population:
            raise ValueError(f"cannot draw {self.sample} distinct seeds from {self.population}")
        return self


Seed = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]


class Axes(_Frozen):
    """The lists whose combinations are the grid's cells."""

    mode: Annotated[list[Mode], Field(min_length=1), AfterValidator(_distinct)]
    psi: Annotated[list[Psi], AfterValidator(_distinct)] = []
    ratio: Annotated[list[Ratio], AfterValidator(_distinct)] = []
    fakes: Annotated[list[Counts], AfterValidator(_distinct)] = []
    seed: Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)] | SeedSample
    remove: Annotated[list[Removals], AfterValidator(_distinct)] = []
    recipe: dict[str, Annotated[list[Any], Field(min_length=1), AfterValidator(_distinct)]] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_recipe_fields(cls, raw: Any) -> Any:
        """Move `recipe.model: [...]` into `recipe: {model: [...]}`."""
        if not isinstance(raw, dict):
            return raw
        gathered = {k: v for k, v in raw.items() if not str(k).startswith("recipe.")}
        fields = {
            str(k).removeprefix("recipe."): v
            for k, v in raw.items()
            if str(k).startswith("recipe.")
        }
        if fields:
            gathered["recipe"] = {**fields, **gathered.get("recipe", {})}
        return gathered

    @model_validator(mode="after")
    def _needed_together(self) -> Axes:
        problems = []
        if self.ratio and self.fakes:
            problems.append("give `ratio` or `fakes`, not both")
        if set(self.mode) - {"baseline"}:
            if not self.psi:
                problems.append("`psi` is missing or empty, but a mode uses fakes")
            if not self.ratio and not self.fakes:
                problems.append("`ratio` (or `fakes`) is missing or empty, but a mode uses fakes")
        for field, values in self.recipe.items():
            problems += _bad_recipe_values(field, values)
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _bad_recipe_values(field: str, values: list[Any]) -> list[str]:
    if field not in Recipe.model_fields:
        return [f"`recipe.{field}`: unknown recipe field{_near(field, Recipe.model_fields)}"]
    problems = []
    for value in values:
        try:
            Recipe.model_validate({field: value, **({"pretrained": True} if field == "weights" else {})})
        except ValidationError as error:
            problems += [f"`recipe.{field}`: {e['msg']}, got {value!r}" for e in error.errors()]
    return problems


class SnapshotFile(_Frozen):
    """One label's network: a file, and the class where the network is conditional."""

    file: str
    class_index: Annotated[int, Field(strict=True, ge=0)] | None = Field(None, alias="class")


class Generator(_Frozen):
    """What makes the fakes."""

    kind: Literal["stylegan2", "phantom", "stub"] = "stylegan2"
    snapshots: dict[str, SnapshotFile] = {}
    noise: Literal["const", "none", "seeded"] = "seeded"

    @model_validator(mode="before")
    @classmethod
    def _plain_files(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("snapshots"), dict):
            files = {
                label: {"file": value} if isinstance(value, str) else value
                for label, value in raw["snapshots"].items()
            }
            return {**raw, "snapshots": files}
        return raw

    @model_validator(mode="after")
    def _snapshots_or_kind(self) -> Generator:
        if self.kind == "stylegan2" and not self.snapshots:
            raise ValueError("give `snapshots: {label: file}`, or another `kind`")
        if self.kind != "stylegan2" and self.snapshots:
            raise ValueError(f"`kind: {self.kind}` takes no `snapshots`")
        return self


class Scheduler(_Frozen):
    """Early stopping of arms; `none` so far."""

    type: Literal["none"] = "none"


class Resources(_Frozen):
    """What one trial holds of a machine."""

    cpu: Annotated[float, Field(gt=0)] = 1
    gpu: Annotated[float, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _whole_above_one(self) -> Resources:
        for name in ("cpu", "gpu"):
            value = getattr(self, name)
            if value > 1 and not float(value).is_integer():
                raise ValueError(f"`{name}` above 1 must be a whole number, got {value:g}")
        return self


class Space(_Frozen):
    """A grid: what to train, from which images and fakes, for how long, on what."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    dataset: str
    bank: str | None = None
    generator: Generator | None = None
    pool: Annotated[int, Field(strict=True, ge=1, le=2**32 - 1)] = 30000
    axes: Axes
    remove: Removals | None = None
    remove_by: Literal["image", "group"] = "image"
    controls: Annotated[list[Literal["oversample", "drop"]], AfterValidator(_distinct)] = []
    recipe: Recipe = Recipe()
    budget: Budget = Budget()
    scheduler: Scheduler = Scheduler()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _parts_fit(self) -> Space:
        problems = []
        uses_fakes = bool(set(self.axes.mode) - {"baseline"})
        if uses_fakes and self.bank is None:
            problems.append("`bank` is missing, but a mode uses fakes")
        if uses_fakes and self.generator is None:
            problems.append("`generator` is missing, but a mode uses fakes")
        replaces = "replacement" in self.axes.mode
        if self.remove and self.axes.remove:
            problems.append("`remove` is given twice: at the top and as an axis")
        if replaces and not (self.remove or self.axes.remove):
            problems.append("`remove` is missing, but `mode` has replacement")
        if "drop" in self.controls and not replaces:
            problems.append("`controls: drop` is the twin of replacement, which `mode` lacks")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every arm."""
        drawn = self.axes.seed
        if isinstance(drawn, SeedSample):
            return tuple(random.Random(drawn.rng).sample(range(drawn.population), drawn.sample))
        return tuple(drawn)

    @property
    def removals(self) -> tuple[Removals, ...]:
        """The removals that replacement arms go through."""
        return tuple(self.axes.remove) or ((self.remove,) if self.remove else ())

    @property
    def amounts(self) -> tuple[tuple[float | None, Counts | None], ...]:
        """(ratio, None) or (None, counts by label) for each amount of fakes."""
        if self.axes.fakes:
            return tuple((None, counts) for counts in self.axes.fakes)
        return tuple((ratio, None) for ratio in self.axes.ratio)

    def to_yaml(self) -> str:
        """Return the resolved grid: defaults written out, seeds drawn."""
        value = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        value["axes"]["seed"] = list(self.seeds)
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def load_space(path: Path) -> Space:
    """Return the grid in a YAML file.

    Raises:
        GridError: with every problem of the file.
    """
    raw = read_yaml(path)
    return parse_space(_with_grid_folder(raw, str(path.resolve().parent)), str(path))


def parse_space(raw: Any, source: str = "grid") -> Space:
    """Return the grid that a mapping describes; see `load_space`."""
    if not isinstance(raw, dict):
        raise GridError([f"a grid is a mapping of keys to values, got {type(raw).__name__}"], source)
    try:
        return Space.model_validate(raw)
    except ValidationError as error:
        raise GridError(_lines(error), source) from None


def _with_grid_folder(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace(GRID, folder)
    if isinstance(value, dict):
        return {key: _with_grid_folder(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_grid_folder(inner, folder) for inner in value]
    return value


_MODELS: dict[str, type[BaseModel]] = {
    "axes": Axes,
    "generator": Generator,
    "recipe": Recipe,
    "budget": Budget,
    "scheduler": Scheduler,
    "resources": Resources,
}


def _lines(error: ValidationError) -> list[str]:
    """Return pydantic's findings as one line each: key, rule, value, near-misses."""
    lines: dict[str, None] = {}  # an ordered set: unions report one finding several times
    for found in error.errors():
        place = [str(part) for part in found["loc"] if not _is_union_branch(part)]
        key = ".".join(place) or "grid"
        if found["type"] == "extra_forbidden":
            model = Space if len(place) == 1 else _MODELS.get(place[0])
            near = _near(place[-1], model.model_fields) if model else ""
            lines[f"`{key}`: unknown {'axis' if place[0] == 'axes' else 'key'}{near}"] = None
        elif found["type"] == "missing":
            lines[f"`{key}` is missing"] = None
        else:
            message = found["msg"].removeprefix("Value error, ")
            shown = _shown(found["input"]) if found["type"] != "value_error" else ""
            lines[f"`{key}`: {message[0].lower()}{message[1:]}{shown}"] = None
    return list(lines)


def _is_union_branch(part: Any) -> bool:
    """Return whether pydantic names a branch of a union here, not a key of the file."""
    return isinstance(part, str) and (
        "[" in part or part in ("SeedSample", "float", "int", "str", "constrained-float")
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return f", got {text if len(text) <= 60 else text[:57] + '...'}"


def _near(name: str, known: Any) -> str:
    synonyms = {"truncation": "psi", "trunc": "psi", "seeds": "seed", "modes": "mode"}
    near = difflib.get_close_matches(name, list(known), n=1)
    guess = synonyms.get(name) or (near[0] if near else None)
    return f", did you mean `{guess}`?" if guess in known else ""
