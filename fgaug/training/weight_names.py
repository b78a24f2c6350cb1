"""Which tensors of a file are a network's, under which prefix and in which part of the file.

Strict: every tensor of the network is there with its
shape, or the file is refused; nothing is loaded in half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fgaug.errors import UserError

AVERAGES = ("state_dict_ema", "model_ema")  # parts that timm takes before the others
_FIRST = ("state_dict", "model")  # then these
_COUNTER = ".num_batches_tracked"  # of norm layers; files of before PyTorch 0.4.1 have none
_MAX_DEPTH = 3
_SHOWN = 3  # names in a message
# Self-supervised programs keep the network that learned and a slow copy of it; their own guides
# take the first.
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
    """The tensors of a network in a file."""

    tensors: dict[str, Any]  # by the network's own names; counters may be missing
    part: str  # of the file, such as `state_dict`; empty for the file itself
    prefix: str  # before the names there, such as `module.encoder_q.`
    unused: int  # tensors of the part that are not the network's: a head, other networks
    passed_over: str = ""  # places of slow copies of the network, see `_LEARNED_OVER_COPY`

    @property
    def place(self) -> str:
        """Return part and prefix in words."""
        where = [f"under {self.part!r}"] if self.part else []
        where += [f"with the prefix {self.prefix!r}"] if self.prefix else []
        return " ".join(where) or "as they are"


def average_of(value: Mapping[Any, Any]) -> str | None:
    """Return the part of a file that holds averaged weights and is taken before others."""
    for name in AVERAGES:
        if value.get(name) is not None and any(True for _ in _parts(value[name], name)):
            return name
    return None


def find_tensors(value: Mapping[Any, Any], body: Any, renames: Sequence[Rename] = ()) -> Match:
    """Return a network's tensors from what a file holds.

    Averaged weights first where timm takes them, then `state_dict` and `model`, then whichever
    other part fits; each as it is named, under one prefix that all names share, or with the index
    of each top module in place of its name, as a Sequential has it. Last, the library's own
    renaming of other programs' files.

    Args:
        value: the dict in the file.
        body: the network, an nn.Module.
        renames: the library's functions; one that fails on a file is passed over.

    Raises:
        UserError: nothing in the file fits, or two things that differ do. Not a full sentence:
            the caller names the file.
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
    """Return which other parts of a file fit where its averaged weights do not."""
    if average is None:
        return ""
    others = {key: each for key, each in value.items() if key not in AVERAGES}
    found = [match for name, part in _parts(others, "") for match in _matches(name, part, body)]
    if not found:
        return ""
    first = found[0]
    where = "".join(f"[{key!r}]" for key in first.part.split(".") if key)
    return (
        f". These are its averaged weights, under {average!r}, which are taken first; those "
        f"{first.place} do fit. To start from them, save them alone: "
        f"torch.save(torch.load(FILE, weights_only=False){where}, NEW_FILE)"
    )


def unusable(match: Match) -> str:
    """Return why a network cannot start from its tensors in a file; empty where it can.

    Numbers of other kinds would be cast in silence, or fail; NaN would train to NaN.
    """
    import torch

    weights = {k: v for k, v in match.tensors.items() if not k.endswith(_COUNTER)}
    for name, tensor in weights.items():
        if tensor.is_quantized or tensor.is_meta or not tensor.is_floating_point():
            held = "no numbers" if tensor.is_meta else f"{tensor.dtype} numbers"
            return (
                f"its {match.prefix}{name} has {held}, and a network has floating-point "
                "weights. Save those of the trained model: "
                "torch.save(model.float().state_dict(), FILE)"
            )
    bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        return (
            f"{len(bad)} of its {len(weights)} tensors hold NaN or infinite numbers "
            f"({_some([match.prefix + name for name in bad])}): the training that saved it went "
            "wrong. Give an earlier file of that training"
        )
    return ""


def _parts(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each dict of a file that holds tensors, by dotted name."""
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
    """Return the network's tensors under each prefix where all of them are, in a file's part.

    Where they are there without a prefix, or with that of DataParallel, no other is looked at.
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
    """Return the names that the tensors have in a Sequential of the network's modules."""
    index = {name: str(place) for place, (name, _) in enumerate(body.named_children())}
    found = {}
    for name in shapes:
        top, dot, rest = name.partition(".")
        found[name] = f"{index.get(top, top)}{dot}{rest}"
    return found


def _prefixes(tensors: Tensors, needed: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return each prefix under which all that is needed is there, with its shape."""
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
    """Return a part's tensors as the library renames them, None where it cannot.

    Its functions are written for whole files of certain programs and fail on others in many ways.
    """
    try:
        renamed = rename(dict(tensors), body)
    except Exception:
        return None
    return renamed if isinstance(renamed, dict) else None


def _only(fitting: list[Match]) -> Match:
    """Return the one match, or the one that learned where the others are its slow copy.

    Raises:
        UserError: several match and differ.
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
        f"it holds this model's weights {len(fitting)} times, and they differ ({places}). Save "
        "those you mean alone: torch.save(state_dict, FILE)"
    )


def _equal(one: Match, other: Match) -> bool:
    import torch

    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def _differences(parts: Mapping[str, Tensors], wanted: Tensors) -> str:
    """Return how a file's names and shapes differ from a network's, for a message."""
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
        return f"it holds the weights of another model ({'; '.join(listed[:5])}{more})"
    if not tensors:
        return "it holds no tensors by name"
    under = f" under {name!r}" if name else ""
    count = f"its {len(tensors)} tensors{under} are" if len(tensors) > 1 else f"its one{under} is"
    return (
        f"it holds the weights of another model ({count} called {_some(list(tensors))}; "
        f"the model's {len(needed)} are called {_some(needed)})"
    )


def _other_channels(tensors: Tensors, wanted: Tensors, prefix: str) -> str:
    """Return the way on where a file differs in the channels of its first layer alone."""
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
            return f"{differ}; the rest fits. Weights of {ours[1]} channels are needed"
        return (
            f"{differ.replace('1 channels', '1 channel')}; the rest fits. Grey images are given "
            f"to the model as {ours[1]} equal channels, so share the layer out among them: "
            f"state[{prefix + key!r}] = state[{prefix + key!r}].repeat(1, {ours[1]}, 1, 1) / "
            f"{ours[1]}, then torch.save(state, NEW_FILE)"
        )
    return ""


def _likeliest_prefix(tensors: Tensors, needed: Sequence[str]) -> str:
    """Return the prefix under which most of the names are."""
    ends = Counter(
        name.removesuffix(key) for key in needed[:_SHOWN] for name in tensors if name.endswith(key)
    )
    starts = sorted(start for start in ends if not start or start.endswith("."))
    return max(starts, key=lambda s: sum(s + key in tensors for key in needed), default="")


def _some(names: list[str]) -> str:
    shown = [name if len(name) <= 100 else f"{name[:100]}..." for name in names[:_SHOWN]]
    return ", ".join([*shown, "..."] if len(names) > _SHOWN else shown)
