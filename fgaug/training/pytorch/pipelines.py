"""Build albumentations pipelines from the steps of a grid, nested ones included.

A step is one `Name: {options}`. `OneOf`, `SomeOf`, `RandomOrder`, `Sequential` and `OneOrOther`
contain a list of steps under `transforms`, nested to any depth.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from fgaug.errors import GridError
from fgaug.grid.messages import near
from fgaug.grid.recipe import Transform

_OPTIONS = {  # of groups
    "Sequential": ("transforms", "p"),
    "OneOf": ("transforms", "p"),
    "SomeOf": ("transforms", "n", "replace", "p"),
    "RandomOrder": ("transforms", "n", "replace", "p"),
    "OneOrOther": ("transforms", "first", "second", "p"),
}
_KEY = "`recipe.augmentation`"


def pipeline(steps: Sequence[Transform], seed: int) -> Any:
    """Return the albumentations pipeline of a recipe, seeded.

    Raises:
        GridError: names all steps and options unknown to albumentations.
    """
    problems: list[str] = []
    built = _built(steps, problems)
    if problems:
        raise GridError(problems)
    whole = composed(built)
    seed_streams(whole, seed)
    return whole


def composed(transforms: Sequence[Any]) -> Any:
    """Combine transforms into one pipeline."""
    return _albumentations().Compose(list(transforms), seed=0)


def seed_streams(pipeline: Any, seed: int) -> None:
    """Seed every member of a pipeline with a separate random stream.

    albumentations gives all members the same seed, so two flips always occur together
    (findings/albumentations_flips_together.sh). The first step keeps the seed itself, so a
    pipeline of one step draws as in albumentations.
    """
    for place, member in enumerate(members(pipeline)):
        words = np.random.SeedSequence([seed, place]).generate_state(4)
        own = seed if place < 2 else int.from_bytes(words.tobytes(), sys.byteorder)
        member.set_random_seed(own)  # also seeds a group's members, which follow


def members(pipeline: Any) -> Iterator[Any]:
    """Yield a pipeline and all its members with random draws."""
    yield pipeline
    for member in getattr(pipeline, "transforms", ()):
        yield from members(member)


def _albumentations() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it checks for updates online
    import albumentations

    return albumentations


def _built(steps: Sequence[Any], problems: list[str]) -> list[Any]:
    """Return the transforms of all steps that can be built, and record the problems of others."""
    found: list[Any] = []
    for step in steps:
        if not isinstance(step, Mapping) or len(step) != 1:
            problems.append(f"{_KEY}: each step is one `Name: {{options}}`, got {step!r:.80}")
            continue
        ((name, options),) = step.items()
        if not isinstance(options, Mapping):
            problems.append(f"{_KEY}: {name} takes a mapping of options, got {options!r:.80}")
            continue
        make = _group if name in _OPTIONS else _transform
        made = make(str(name), options, problems)
        found += [] if made is None else [made]
    return found


def _transform(name: str, options: Mapping[str, Any], problems: list[str]) -> Any:
    albumentations = _albumentations()
    made: Any = getattr(albumentations, name, None)
    if not _is_transform(made):
        problems.append(f"{_KEY}: albumentations has no transform `{name}`{_near_name(name)}")
        return None
    try:
        with warnings.catch_warnings():
            # it only warns of unknown options, and ignores them
            warnings.filterwarnings("error", r"Argument\(s\) .* not valid")
            return made(**options)
    except (TypeError, ValueError, UserWarning) as error:
        guess = _near_option(made, options)
        problems.append(f"{_KEY}: {name} refuses {dict(options)}: {reason(error)}{guess}")
    return None


def _group(name: str, options: Mapping[str, Any], problems: list[str]) -> Any:
    wrong = [
        f"{_KEY}: {name} has no option `{option}`{near(str(option), _OPTIONS[name])}"
        for option in options
        if option not in _OPTIONS[name]
    ]
    wrong += _wrong_numbers(name, options)
    steps = _steps_of(name, options)
    if isinstance(steps, str):
        problems += [*wrong, f"{_KEY}: {name} {steps}"]
        return None
    before = len(problems)
    built = _built(steps, problems)
    count = options.get("n", 1)
    if not wrong and len(steps) < count and not options.get("replace", False):
        wrong.append(
            f"{_KEY}: {name} applies `n: {count}` of {len(steps)} steps; lower `n`, or set "
            "`replace: true`"
        )
    if name == "OneOf" and built and not any(step.p for step in built):
        wrong.append(f"{_KEY}: OneOf chooses by the `p` of its steps, and all of them are 0")
    problems += wrong
    if len(problems) > before:
        return None
    rest = {k: v for k, v in options.items() if k not in ("transforms", "first", "second")}
    make: Callable[..., Any] = getattr(_albumentations(), name)
    return make(transforms=built, **rest)


def _steps_of(name: str, options: Mapping[str, Any]) -> list[Any] | str:
    """Return the steps of a group, or the problem with their form."""
    if name == "OneOrOther":
        if "transforms" not in options and {"first", "second"} <= set(options):
            return [options["first"], options["second"]]
        steps = options.get("transforms")
        if not isinstance(steps, (list, tuple)) or len(steps) != 2:
            return "needs two steps: a list of them under `transforms`, or `first` and `second`"
        return list(steps)
    steps = options.get("transforms")
    if not isinstance(steps, (list, tuple)) or not steps:
        return f"needs a list of steps under `transforms`, got {steps!r:.80}"
    return list(steps)


def _wrong_numbers(name: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield invalid numbers of a group, which albumentations does not check."""
    share, count = options.get("p", 0.5), options.get("n", 1)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        yield f"{_KEY}: `p` of {name} must be between 0 and 1, got {share!r}"
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        yield f"{_KEY}: `n` of {name} must be a whole number of at least 1, got {count!r}"
    if not isinstance(options.get("replace", False), bool):
        yield f"{_KEY}: `replace` of {name} must be true or false, got {options['replace']!r}"


def _is_transform(made: Any) -> bool:
    """Return whether an albumentations class is a transform, not a base class."""
    return (
        isinstance(made, type)
        and issubclass(made, _albumentations().BasicTransform)
        and made.__module__.startswith("albumentations.augmentations.")
    )


def _near_name(name: str) -> str:
    albumentations = _albumentations()
    known = [each for each in dir(albumentations) if _is_transform(getattr(albumentations, each))]
    return near(name, [*known, *_OPTIONS])


def _near_option(made: Any, options: Mapping[str, Any]) -> str:
    known = [name for name in inspect.signature(made.__init__).parameters if name != "self"]
    guesses = (near(str(option), known) for option in options if option not in known)
    return next(filter(None, guesses), "")


def reason(error: Exception) -> str:
    """Return the error of a transform in one line."""
    cause = error.__cause__  # albumentations formats each pydantic error as 4 lines
    if isinstance(cause, ValidationError):
        found = {f"`{one['loc'][0]}`: {one['msg']}" for one in cause.errors() if one["loc"]}
        return "; ".join(sorted(found)) or _first_line(cause)
    return _first_line(error)


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
