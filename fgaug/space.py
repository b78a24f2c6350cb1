"""The grid file: YAML -> a frozen Space, all its problems reported at once.  [space] -> cells"""

from __future__ import annotations

import difflib
import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    StrictInt,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from fgaug.errors import GridError
from fgaug.recipe import Budget, Recipe
from fgaug.yaml_file import read_yaml

Mode = Literal["baseline", "augmentation", "replacement", "synthetic"]
Removal = Literal["all"] | float
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


Removals = dict[str, Annotated[Removal, PlainValidator(_removal)]]
Number = Annotated[float, BeforeValidator(_no_bool)]
Psi = Annotated[Number, AfterValidator(_not_zero)]
Ratio = Annotated[Number, Field(gt=0)]


class _Misfits(ValueError):
    """Keys that are right by themselves and wrong together; each problem names its keys."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SeedSample(_Frozen):
    """`random.Random(rng).sample(range(from), sample)`, as the fetal-brain study drew them."""

    sample: Annotated[int, Field(strict=True, ge=1)]
    population: Annotated[int, Field(strict=True, ge=1, le=2**32, alias="from")] = 1000
    rng: StrictInt = 19

    @model_validator(mode="after")
    def _enough(self) -> SeedSample:
        if self.sample > self.population:
            raise ValueError(f"cannot draw {self.sample} distinct seeds from {self.population}")
        return self


Seed = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]


def _seed_form(value: Any) -> str:
    return "SeedSample" if isinstance(value, (dict, SeedSample)) else "list[Seed]"


class Axes(_Frozen):
    """The lists whose combinations are the grid's cells."""

    mode: Annotated[list[Mode], Field(min_length=1), AfterValidator(_distinct)]
    psi: Annotated[list[Psi], AfterValidator(_distinct)] = []
    ratio: Annotated[list[Ratio], AfterValidator(_distinct)] = []
    fakes: Annotated[list[Counts], AfterValidator(_distinct)] = []
    seed: Annotated[
        Annotated[Seeds, Tag("list[Seed]")] | Annotated[SeedSample, Tag("SeedSample")],
        Discriminator(_seed_form),
    ]
    remove: Annotated[list[Removals], AfterValidator(_distinct)] = []
    recipe: dict[str, Annotated[list[Any], Field(min_length=1), AfterValidator(_distinct)]] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_recipe_fields(cls, raw: Any) -> Any:
        return _gathered(raw)

    @model_validator(mode="after")
    def _needed_together(self) -> Axes:
        problems = _axes_misfits(dict(self))
        if problems:
            raise _Misfits(problems)
        return self


def _gathered(raw: Any) -> Any:
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


def _axes_misfits(axes: Mapping[str, Any]) -> list[str]:
    """Return what axes say of each other, and of recipes; `axes` may be wrong otherwise."""
    problems = []
    if axes.get("ratio") and axes.get("fakes"):
        problems.append("`axes`: give `ratio` or `fakes`, not both")
    if _uses_fakes(axes):
        if not axes.get("psi"):
            problems.append("`axes.psi` is missing or empty, but a mode uses fakes")
        if not axes.get("ratio") and not axes.get("fakes"):
            problems.append("`axes.ratio` (or `fakes`) is missing or empty, but a mode uses fakes")
    fields = axes.get("recipe")
    for field, values in fields.items() if isinstance(fields, dict) else ():
        problems += _bad_recipe_values(str(field), values if isinstance(values, list) else [])
    return problems


def _uses_fakes(axes: Mapping[str, Any]) -> bool:
    modes = axes.get("mode")
    return isinstance(modes, list) and any(mode != "baseline" for mode in modes)


def _bad_recipe_values(field: str, values: list[Any]) -> list[str]:
    if field not in Recipe.model_fields:
        near = _near(field, Recipe.model_fields)
        return [f"`axes.recipe.{field}`: unknown recipe field{near}"]
    problems = []
    for value in values:
        try:
            Recipe.model_validate({field: value})
        except ValidationError as error:
            problems += [line.replace("`", "`axes.recipe.", 1) for line in _lines(error)]
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

    cpu: Annotated[Number, Field(gt=0)] = 1
    gpu: Annotated[Number, Field(ge=0)] = 0

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
        problems = _space_misfits({**dict(self), "axes": dict(self.axes)})
        for values in itertools.product(*self.axes.recipe.values()):
            fields = dict(zip(self.axes.recipe, values, strict=True))
            try:
                Recipe.model_validate({**self.recipe.model_dump(), **fields})
            except ValidationError as error:
                problems += [f"`axes.recipe` with `recipe`: {_rule(e)}" for e in error.errors()]
        if problems:
            raise _Misfits(list(dict.fromkeys(problems)))
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


def _space_misfits(space: Mapping[str, Any]) -> list[str]:
    """Return what top-level keys and axes say of each other; `space` may be wrong otherwise."""
    problems = []
    axes = space.get("axes")
    axes = axes if isinstance(axes, dict) else {}
    if _uses_fakes(axes):
        for key in ("bank", "generator"):
            if space.get(key) is None:
                problems.append(f"`{key}` is missing, but a mode uses fakes")
    modes = axes.get("mode")
    modes = modes if isinstance(modes, list) else []
    replaces = "replacement" in modes
    if space.get("remove") and axes.get("remove"):
        problems.append("`remove` is given twice: at the top and as an axis")
    if replaces and not (space.get("remove") or axes.get("remove")):
        problems.append("`remove` is missing, but `mode` has replacement")
    controls = space.get("controls")
    known = modes and all(mode in get_args(Mode) for mode in modes)
    if isinstance(controls, list) and "drop" in controls and known and not replaces:
        problems.append("`controls: drop` is the twin of replacement, which `mode` lacks")
    return problems


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
        problem = f"a grid is a mapping of keys to values, got {type(raw).__name__}"
        raise GridError([problem], source)
    try:
        return Space.model_validate(raw)
    except ValidationError as error:
        lines = _lines(error)
    # pydantic compares keys only where each is right by itself
    axes = _gathered(raw.get("axes"))
    lines += _axes_misfits(axes) if isinstance(axes, dict) else []
    lines += _space_misfits(raw)
    raise GridError(list(dict.fromkeys(lines)), source)


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
        problem = found.get("ctx", {}).get("error")
        if isinstance(problem, _Misfits):
            lines |= dict.fromkeys(problem.problems)
        elif found["type"] == "extra_forbidden":
            model = (
                Space if len(place) == 1 else _MODELS.get(place[0]) if len(place) == 2 else None
            )
            near = _near(place[-1], model.model_fields) if model else ""
            kind = "axis" if place[0] == "axes" and len(place) == 2 else "key"
            lines[f"`{key}`: unknown {kind}{near}"] = None
        elif found["type"] == "missing":
            lines[f"`{key}` is missing"] = None
        else:
            shown = _shown(found["input"]) if found["type"] != "value_error" else ""
            lines[f"`{key}`: {_rule(found)}{shown}"] = None
    return list(lines)


_RULES = {
    "too_short": "must not be empty",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "string_type": "must be text",
    "string_pattern_mismatch": "must be letters, digits, dots, dashes and underscores",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}


def _rule(found: ErrorDetails) -> str:
    """Return the rule that a finding of pydantic names, in our words where we have some."""
    if found["type"] in _RULES:
        return _RULES[found["type"]].format(**found.get("ctx", {}))
    message = found["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


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
