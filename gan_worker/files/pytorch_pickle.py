"""Read the options and tensors of `G_ema` from the modules of a PyTorch network pickle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from fgaug.errors import SnapshotError
from gan_worker.files.contents import Array, Contents
from gan_worker.files.records import Module
from gan_worker.files.stored import StoredTensor, array_of, shown
from gan_worker.files.unpickle import Opaque
from gan_worker.networks import GeneratorConfig

# A 1024 px generator has 73 modules and 158 tensors without filters. Modules may share parts, so
# without limits a small file could expand endlessly.
_MAX_PARTS = 1000
_MAX_NAME = 100
_SHOWN = 8  # names of entries listed in a message
LONE = "a generator alone"  # what a file's network is called that has no name
_FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
# Classes of a StyleGAN2 network; modules of other classes are allowed if no network uses them.
_CLASSES = frozenset(
    {
        "AugmentPipe",
        "Conv2dLayer",
        "Discriminator",
        "DiscriminatorBlock",
        "DiscriminatorEpilogue",
        "FullyConnectedLayer",
        "Generator",
        "MappingNetwork",
        "MinibatchStdLayer",
        "SynthesisBlock",
        "SynthesisLayer",
        "SynthesisNetwork",
        "ToRGBLayer",
    }
)
_VERSION = 6  # of the persistence format, the only one ever published
AVERAGES = ("G_ema", "g_ema", "netG_ema", "generator_ema", "ema")
_TRAINED = ("G", "netG", "g")  # names of the network being trained
_SAVE = "with open('net.pkl', 'wb') as f: pickle.dump({'G_ema': G_ema}, f)"
T = TypeVar("T")


def contents_of(value: Any) -> Contents:
    """Return the averaged generator from the value of a PyTorch network pickle."""
    name, network = _generator(value)
    modules, stored = flattened(network)
    return Contents(
        kind="stylegan2-ada-pytorch",
        network=name,
        config=_config_of(modules, stored),
        arrays=arrays_of(stored),
    )


def _generator(value: Any) -> tuple[str, Module]:
    """Return the generator for sampling and its name in the file.

    This is the moving average under one of its usual names, else the only generator in the file,
    unless its name is that of the network being trained.
    """
    if isinstance(value, Module):
        if value.class_name != "Generator":
            raise SnapshotError(f"it contains a {shown(value.class_name)}, not a generator")
        return LONE, value
    entries = value if isinstance(value, dict) else {}
    for name in AVERAGES:
        if isinstance(entries.get(name), Module):
            return name, named_network(value, name, "Generator")
    if isinstance(entries.get("G_ema"), Opaque):
        raise SnapshotError(f"its G_ema is {shown(entries['G_ema'])}")
    found = {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, Module) and entry.class_name == "Generator"
    }
    if len(found) == 1 and (name := next(iter(found))) not in _TRAINED and isinstance(name, str):
        return name, found[name]
    raise SnapshotError(
        f"it has no generator under the name 'G_ema', only {_listed(value)}; the generators in "
        f"it are {', '.join(map(shown, found)) or 'none'}. Load it with its original code and "
        f"save the one for sampling: {_SAVE}"
    )


def _listed(value: Any) -> str:
    """Describe the contents of a pickle."""
    if not isinstance(value, dict):
        return shown(value)
    names = ", ".join(shown(name) for name in list(value)[:_SHOWN])
    return f"{len(value)} entries ({names}{', ...' if len(value) > _SHOWN else ''})"


def arrays_of(stored: dict[str, StoredTensor]) -> dict[str, Array]:
    """Return views of all tensors except the filters, which must equal the built-in one."""
    kept = {}
    for name, tensor in stored.items():
        array = array_of(tensor, name)
        if not name.endswith("resample_filter"):
            kept[name] = array
        elif tensor.size != (4, 4) or not np.allclose(array, _FILTER, atol=1e-6):
            raise SnapshotError(
                f"{shown(name)} is not the [1, 3, 3, 1] filter, the only one supported"
            )
    return kept


def named_network(value: Any, name: str, class_name: str) -> Module:
    """Return a network from the value of a pickle."""
    network = value.get(name) if isinstance(value, dict) else None
    if not isinstance(network, Module) or network.class_name != class_name:
        known = shown(network.class_name) if isinstance(network, Module) else shown(network)
        there = "" if network is None else f", but {known}"
        raise SnapshotError(f"it has no {class_name.lower()} under the name {name!r}{there}")
    return network


def flattened(top: Module) -> tuple[dict[str, Module], dict[str, StoredTensor]]:
    """Return all modules and tensors below `top`, by dotted name."""
    modules: dict[str, Module] = {}
    tensors: dict[str, StoredTensor] = {}
    waiting = [("", top)]
    while waiting:
        path, module = waiting.pop()
        if module.class_name not in _CLASSES:
            raise SnapshotError(
                f"{path or 'the network'} is a {shown(module.class_name)}, which is not a class "
                "of a StyleGAN2 network"
            )
        modules[path] = module
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _children(module, kind, StoredTensor):
                tensors[f"{path}.{name}".lstrip(".")] = tensor
        for name, child in _children(module, "_modules", Module):
            waiting.append((f"{path}.{name}".lstrip("."), child))
        if max(len(modules) + len(waiting), len(tensors)) > _MAX_PARTS or path.count(".") > 5:
            raise SnapshotError(f"it nests more than {_MAX_PARTS} modules or tensors")
    for path, module in modules.items():
        if module.version != _VERSION or type(module.version) is not int:
            raise SnapshotError(
                f"{path or 'the network'} was written in version {shown(module.version)} of the "
                f"persistence format; only version {_VERSION} is supported, which all official "
                "programs write"
            )
    return modules, tensors


def _children(module: Module, kind: str, expected: type[T]) -> Iterator[tuple[str, T]]:
    entries = module.state.get(kind)
    if not isinstance(entries, dict):
        raise SnapshotError(f"a {module.class_name} without {kind}")
    if len(entries) > _MAX_PARTS:
        raise SnapshotError(f"a {module.class_name} with {len(entries)} {kind}")
    for name, entry in entries.items():
        if entry is None:  # such as the missing bias of a layer
            continue
        if not (isinstance(name, str) and len(name) <= _MAX_NAME and isinstance(entry, expected)):
            raise SnapshotError(
                f"{kind} of a {module.class_name} have an unexpected value: {shown(entry)}"
            )
        yield name, entry


def _config_of(modules: dict[str, Module], stored: dict[str, StoredTensor]) -> GeneratorConfig:
    """Return the options from the attributes of the modules.

    The construction arguments in the file omit defaults, which depend on the program: an absent
    conv_clamp means None in stylegan2-ada-pytorch and 256 in stylegan3.
    """
    top, mapping = modules[""], at(modules, "mapping")
    _check_arguments(top)
    resolution, w_dim, labels = (whole(top, n) for n in ("img_resolution", "w_dim", "c_dim"))
    blocks = [f"synthesis.b{2**power}" for power in range(2, resolution.bit_length())]
    convolutions = [m for m in modules.values() if m.class_name == "SynthesisLayer"]
    to_rgb = [m for m in modules.values() if m.class_name == "ToRGBLayer"]
    layers = whole(mapping, "num_layers")
    dense = [at(modules, f"mapping.fc{index}") for index in range(layers)]
    return GeneratorConfig(
        resolution=resolution,
        img_channels=whole(top, "img_channels"),
        labels=labels,
        z_dim=whole(top, "z_dim"),
        w_dim=w_dim,
        widths=tuple(outputs(stored, f"{block}.conv1.weight") for block in blocks),
        architecture=common([at(modules, block) for block in blocks], "architecture", str),
        activation=common(convolutions, "activation", str),
        conv_clamp=clamp_of([*convolutions, *to_rgb]),
        use_noise=common(convolutions, "use_noise", bool),
        mapping_layers=layers,
        mapping_width=outputs(stored, "mapping.fc0.weight") if layers > 1 else w_dim,
        mapping_activation=common(dense, "activation", str),
        mapping_lr_multiplier=real(dense, "bias_gain"),
        embed_width=outputs(stored, "mapping.embed.weight") if labels else 0,
        w_avg_beta=real([mapping], "w_avg_beta"),
    )


def _check_arguments(top: Module) -> None:
    """Refuse a generator whose construction arguments contradict its attributes."""
    given = top.state.get("_init_kwargs")
    for name in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels"):
        value = whole(top, name)
        if isinstance(given, dict) and given.get(name, value) != value:
            raise SnapshotError(
                f"its {name} is {value} but its construction argument is {shown(given[name])}"
            )


def at(modules: dict[str, Module], path: str) -> Module:
    """Return the module at a dotted path, or refuse a network without it."""
    if path not in modules:
        raise SnapshotError(f"it has no {path}: not a StyleGAN2 network")
    return modules[path]


def whole(module: Module, name: str) -> int:
    """Return an attribute that must be a count."""
    value = module.state.get(name)
    if type(value) is not int or not 0 <= value < 2**31:
        raise SnapshotError(f"{name} of {module.class_name} is {shown(value)}, not a count")
    return value


def common(modules: list[Module], name: str, expected: type[T]) -> T:
    """Return the value of an attribute that all `modules` must share."""
    values = [module.state.get(name) for module in modules]
    first = values[0] if values else None
    if not isinstance(first, expected) or any(value != first for value in values):
        raise SnapshotError(f"its layers differ in {name}")
    return first


def real(modules: list[Module], name: str) -> float:
    """Return the positive number that all `modules` must share for an attribute."""
    value = common(modules, name, int | float)  # type: ignore[arg-type]  # a union is no type[T]
    if not 0 < value < 1e9:
        raise SnapshotError(f"{name} must be above 0 and finite, got {shown(value)}")
    return float(value)


def clamp_of(modules: list[Module]) -> float | None:
    """Return the clamp of the layers' outputs, or None."""
    if all(module.state.get("conv_clamp", 0) is None for module in modules):
        return None
    return real(modules, "conv_clamp")


def outputs(stored: dict[str, StoredTensor], name: str) -> int:
    """Return the number of outputs of a layer's weights."""
    tensor = stored.get(name)
    if tensor is None or not tensor.size:
        raise SnapshotError(f"it has no {name}: not a StyleGAN2 network")
    return tensor.size[0]
