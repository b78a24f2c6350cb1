"""Find a network's tensors in a weights file, with their prefix and part of the file.

Matching is strict: the file must have every tensor of the network with its shape, or it is
refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fgaug.errors import UserError

AVERAGES = ("state_dict_ema", "model_ema")  # parts that timm prefers
_FIRST = ("state_dict", "model")  # then these
_COUNTER = ".num_batches_tracked"  # of norm layers; missing before PyTorch 0.4.1
_MAX_DEPTH = 3
_SHOWN = 3  # names in a message
# Self-supervised programs save the trained network and a momentum copy of it; their documentation
# uses the first.
_LEARNED_OVER_COPY = (
    ("encoder_q", "encoder_k"),
    ("base_encoder", "momentum_encoder"),
    ("encoder", "momentum_encoder"),
    ("backbone", "backbone_momentum"),
    ("backbone", "momentum_backbone"),
    ("online_encoder", "target_encoder"),
    ("online_network", "target_network"),
    ("online_net", "target_net"),
)
Tensors = Mapping[str, Any]
Rename = Callable[[dict[str, Any], Any], Any]  # tensors, network -> tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The tensors of a network found in a file."""

    tensors: dict[str, Any]  # by the network's names; counters may be missing
    part: str  # of the file, such as `state_dict`; empty for the file itself
    prefix: str  # of the names in the file, such as `module.encoder_q.`
    unused: int  # tensors that do not belong to the network: a head, other networks
    passed_over: str = ""  # momentum copies of the network, see `_LEARNED_OVER_COPY`

    @property
    def place(self) -> str:
        """Return part and prefix in words."""
        where = [f"under {self.part!r}"] if self.part else []
        where += [f"with the prefix {self.prefix!r}"] if self.prefix else []
        return " ".join(where) or "as they are"


def average_of(value: Mapping[Any, Any]) -> str | None:
    """Return the part of a file with averaged weights, which has precedence."""
    for name in AVERAGES:
        if value.get(name) is not None and any(True for _ in _parts(value[name], name)):
            return name
    return None


def find_tensors(value: Mapping[Any, Any], body: Any, renames: Sequence[Rename] = ()) -> Match:
    """Return a network's tensors from the contents of a file.

    Searches averaged weights first if timm prefers them, then `state_dict` and `model`, then all
    other parts. In each, names may match directly, with one common prefix, or with the index of
    each top module in place of its name, as in a Sequential. Finally, tries the library's
    functions for renaming other programs' files.

    Args:
        value: the dict in the file.
        body: the network, an nn.Module.
        renames: the library's renaming functions; one that fails on a file is skipped.

    Raises:
        UserError: nothing in the file fits, or two different parts do. The message is not a full
            sentence: the caller adds the file.
    """
    wanted = body.state_dict()
    average = average_of(value)
    parts = dict(_parts(value[average], average)) if average else dict(_parts(value, ""))
    for name in _FIRST:
        if name in parts and (fitting := _matches(name, parts[name], body)):
            return _only(fitting)
    fitting = [match for name in parts for match in _matches(name, parts[name], body)]
    for rename in () if fitting else renames:
        for name, tensors in parts.items():
            renamed = _renamed(tensors, body, rename)
            fitting += [] if renamed is None else _matches(name, renamed, body)
    if not fitting:
        raise UserError(_differences(parts, wanted) + _beside_average(value, average, body))
    return _only(fitting)


def _beside_average(value: Mapping[Any, Any], average: str | None, body: Any) -> str:
    """Name the other parts of a file that fit if its averaged weights do not."""
    if average is None:
        return ""
    others = {key: each for key, each in value.items() if key not in AVERAGES}
    found = [match for name, part in _parts(others, "") for match in _matches(name, part, body)]
    if not found:
        return ""
    first = found[0]
    where = "".join(f"[{key!r}]" for key in first.part.split(".") if key)
    return (
        f". These are its averaged weights, under {average!r}, which have precedence; those "
        f"{first.place} do fit. To start from these, save only them: torch.save(torch.load(FILE, "
        f"weights_only=False){where}, NEW_FILE)"
    )


def unusable(match: Match) -> str:
    """Return why a network cannot be initialised with matched tensors; empty if it can.

    Other dtypes would be cast silently or fail, and NaN would lead to NaN.
    """
    import torch

    weights = {k: v for k, v in match.tensors.items() if not k.endswith(_COUNTER)}
    for name, tensor in weights.items():
        if tensor.is_quantized or tensor.is_meta or not tensor.is_floating_point():
            held = "no numbers" if tensor.is_meta else f"{tensor.dtype} numbers"
            return (
                f"its {match.prefix}{name} has {held}, but a network needs floating-point "
                "weights. Save the weights of the trained model: "
                "torch.save(model.float().state_dict(), FILE)"
            )
    bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        return (
            f"{len(bad)} of its {len(weights)} tensors contain NaN or infinite values "
            f"({_some([match.prefix + name for name in bad])}): that training diverged. Give an "
            "earlier checkpoint of it"
        )
    return ""


def _parts(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each dict in a file that contains tensors, with its dotted name."""
    import torch

    if not isinstance(value, Mapping) or depth > _MAX_DEPTH:
        return
    named = {key: each for key, each in value.items() if isinstance(key, str)}
    tensors = {key: each for key, each in named.items() if isinstance(each, torch.Tensor)}
    if tensors:
        yield name, tensors
    for key, each in named.items():
        yield from _parts(each, f"{name}.{key}".lstrip("."), depth + 1)


def _matches(part: str, tensors: Tensors, body: Any) -> list[Match]:
    """Return the network's tensors for each prefix that matches all of them, in a part of a file.

    If they match without a prefix, or with that of DataParallel, no other prefix is tried.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in body.state_dict().items()}
    for names in (dict(zip(shapes, shapes, strict=True)), _by_index(shapes, body)):
        needed = {theirs: shapes[ours] for ours, theirs in names.items()}
        prefixes = _prefixes(tensors, needed)
        for plain in ("", "module."):
            if plain in prefixes:
                prefixes = [plain]
        if prefixes:
            return [_match(part, prefix, tensors, names) for prefix in prefixes]
    return []


def _by_index(shapes: Mapping[str, Any], body: Any) -> dict[str, str]:
    """Return the tensor names in a Sequential of the network's modules."""
    index = {name: str(place) for place, (name, _) in enumerate(body.named_children())}
    found = {}
    for name in shapes:
        top, dot, rest = name.partition(".")
        found[name] = f"{index.get(top, top)}{dot}{rest}"
    return found


def _prefixes(tensors: Tensors, needed: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return each prefix under which all needed tensors exist with their shapes."""
    anchor = max((name for name in needed if not name.endswith(_COUNTER)), key=len)
    starts = sorted(name.removesuffix(anchor) for name in tensors if name.endswith(anchor))

    def fits(start: str) -> bool:
        return all(
            tuple(tensors[start + name].shape) == shape
            if start + name in tensors
            else name.endswith(_COUNTER)
            for name, shape in needed.items()
        )

    return [start for start in starts if (not start or start.endswith(".")) and fits(start)]


def _match(part: str, prefix: str, tensors: Tensors, names: Mapping[str, str]) -> Match:
    found = {
        ours: tensors[prefix + theirs]
        for ours, theirs in names.items()
        if prefix + theirs in tensors
    }
    return Match(tensors=found, part=part, prefix=prefix, unused=len(tensors) - len(found))


def _renamed(tensors: Tensors, body: Any, rename: Rename) -> dict[str, Any] | None:
    """Return a part's tensors as renamed by the library, or None if it fails.

    Its functions are made for complete files of certain programs and fail on others in many ways.
    """
    try:
        renamed = rename(dict(tensors), body)
    except Exception:
        return None
    return renamed if isinstance(renamed, dict) else None


def _only(fitting: list[Match]) -> Match:
    """Return the one match, or the trained network if the others are momentum copies.

    Raises:
        UserError: several matches differ.
    """
    first = fitting[0]
    if all(_equal(first, other) for other in fitting[1:]):
        return first
    for learned, copy in _LEARNED_OVER_COPY:
        chosen = [match for match in fitting if learned in match.prefix.split(".")]
        others = [match for match in fitting if copy in match.prefix.split(".")]
        if len(chosen) == 1 and len(fitting) == 1 + len(others):
            return replace(chosen[0], passed_over="; ".join(match.place for match in others))
    places = "; ".join(match.place for match in fitting)
    raise UserError(
        f"it contains this model's weights {len(fitting)} times, and they differ ({places}). Save "
        "only the ones you need: torch.save(state_dict, FILE)"
    )


def _equal(one: Match, other: Match) -> bool:
    import torch

    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def _differences(parts: Mapping[str, Tensors], wanted: Tensors) -> str:
    """Describe how a file's names and shapes differ from a network's."""
    name, tensors = max(parts.items(), key=lambda entry: len(entry[1]), default=("", {}))
    needed = [key for key in wanted if not key.endswith(_COUNTER)]
    prefix = _likeliest_prefix(tensors, needed)
    missing = [key for key in needed if prefix + key not in tensors]
    wrong = [
        f"{prefix}{key} is {tuple(tensors[prefix + key].shape)}, the model has "
        f"{tuple(wanted[key].shape)}"
        for key in needed
        if prefix + key in tensors and tensors[prefix + key].shape != wanted[key].shape
    ]
    if not missing and len(wrong) == 1 and (way := _other_channels(tensors, wanted, prefix)):
        return way
    if len(missing) <= len(needed) // 2:
        listed = [*wrong, *(f"{prefix}{key} is missing" for key in missing)]
        more = f"; {len(listed)} of {len(needed)} tensors differ" if len(listed) > 5 else ""
        return f"it contains the weights of another model ({'; '.join(listed[:5])}{more})"
    if not tensors:
        return "it contains no named tensors"
    under = f" under {name!r}" if name else ""
    count = f"its {len(tensors)} tensors{under} are" if len(tensors) > 1 else f"its one{under} is"
    return (
        f"it contains the weights of another model ({count} called {_some(list(tensors))}; "
        f"the model's {len(needed)} are called {_some(needed)})"
    )


def _other_channels(tensors: Tensors, wanted: Tensors, prefix: str) -> str:
    """Return a cure if a file differs only in the channels of its first layer."""
    for key, needed in wanted.items():
        held = tensors.get(prefix + key)
        if held is None or held.shape == needed.shape:
            continue
        theirs, ours = tuple(held.shape), tuple(needed.shape)
        if len(ours) != 4 or len(theirs) != 4 or theirs[:1] + theirs[2:] != ours[:1] + ours[2:]:
            return ""
        differ = (
            f"its first layer {prefix + key} takes {theirs[1]} channels, the model's {ours[1]}"
        )
        if theirs[1] != 1:
            return f"{differ}; the rest fits. Weights for {ours[1]} channels are needed"
        return (
            f"{differ.replace('1 channels', '1 channel')}; the rest fits. The model receives grey "
            f"images as {ours[1]} equal channels, so divide the layer among them: "
            f"state[{prefix + key!r}] = state[{prefix + key!r}].repeat(1, {ours[1]}, 1, 1) / "
            f"{ours[1]}, then torch.save(state, NEW_FILE)"
        )
    return ""


def _likeliest_prefix(tensors: Tensors, needed: Sequence[str]) -> str:
    """Return the prefix shared by most of the names."""
    ends = Counter(
        name.removesuffix(key) for key in needed[:_SHOWN] for name in tensors if name.endswith(key)
    )
    starts = sorted(start for start in ends if not start or start.endswith("."))
    return max(starts, key=lambda s: sum(s + key in tensors for key in needed), default="")


def _some(names: list[str]) -> str:
    shown = [name if len(name) <= 100 else f"{name[:100]}..." for name in names[:_SHOWN]]
    return ", ".join([*shown, "..."] if len(names) > _SHOWN else shown)
