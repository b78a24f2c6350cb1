"""Read the averaged generator `Gs` of a TensorFlow pickle, with our names and layouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fgaug.errors import SnapshotError
from gan_worker.files.contents import Contents
from gan_worker.files.records import TensorFlowNetwork
from gan_worker.files.stored import NumpyArray, StoredTensor, array_of, shown
from gan_worker.networks import GeneratorConfig, GeneratorNetwork

T = TypeVar("T")
Array = NDArray[np.float32]
# Programs by the version of their files.
PROGRAMS = {4: "stylegan2", 5: "stylegan2-ada"}
_FUNCTIONS = {
    "": ("G_main",),
    "synthesis": ("G_synthesis", "G_synthesis_stylegan2"),
    "mapping": ("G_mapping",),
}
_CRITICS = ("D_main", "D_stylegan2")
_MAX_NAME = 100
# Construction arguments that change no tensor or follow from the shapes. Options of sampling and
# training are chosen elsewhere; the two convolution methods and the two precisions give the same
# images up to rounding, and here all is float32.
_IGNORED = frozenset(
    (
        "truncation_psi",
        "truncation_cutoff",
        "truncation_psi_val",
        "truncation_cutoff_val",
        "style_mixing_prob",
        "randomize_noise",
        "is_training",
        "is_validation",
        "is_template_graph",
        "force_clean_graph",
        "return_dlatents",
        "dlatent_broadcast",
        "structure",
        "fused_modconv",
        "num_fp16_res",
        "fmap_base",
        "fmap_decay",
        "fmap_min",
        "fmap_max",
        "mapping_fmaps",
        "label_fmaps",
        # the functions themselves are checked
        "mapping_func",
        "synthesis_func",
    )
)
# Arguments that affect images, with their harmless values.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "conditioning": (None,),
    "normalize_latents": (True,),
    "dtype": ("float32", "float16"),
}
_SIDES = ("resolution_w", "resolution_h")  # of forks that make non-square images
_READ = frozenset(
    (
        "latent_size",
        "label_size",
        "dlatent_size",
        "resolution",
        "num_channels",
        "mapping_layers",
        "mapping_nonlinearity",
        "mapping_lrmul",
        # the same option under its new and old name
        "w_avg_beta",
        "dlatent_avg_beta",
        "architecture",
        "nonlinearity",
        "resample_kernel",
        "use_noise",
        "conv_clamp",
    )
)
_READ_OF_D = frozenset(
    (
        "label_size",
        "resolution",
        "num_channels",
        "architecture",
        "conv_clamp",
        "mapping_layers",
        "mapping_lrmul",
        "mapping_nonlinearity",
        "nonlinearity",
        "resample_kernel",
        "freeze_layers",
        "mbstd_group_size",
        "mbstd_num_features",
    )
)
_LAYERS = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB", "skip": "Skip"}
_LEAVES = {"affine.weight": "mod_weight", "affine.bias": "mod_bias"}


def holds(value: Any) -> bool:
    """Return whether a pickle's value is of a TensorFlow program: a sequence of networks."""
    if isinstance(value, dict):
        return any(isinstance(entry, TensorFlowNetwork) for entry in value.values())
    return isinstance(value, tuple | list | TensorFlowNetwork)


def contents_of(value: Any) -> Contents:
    """Return the averaged generator from the value of a TensorFlow network pickle."""
    state = _state_of(value, "Gs")
    variables = dict(_variables(state))
    options = Options(_options_of_parts(state), _READ)
    _check_generation(variables)
    config = _config_of(options, variables)
    return Contents(
        kind=PROGRAMS[state["version"]],
        network="Gs",
        config=config,
        arrays=dict(_renamed(config, variables)),
    )


def discriminator_of(value: Any) -> tuple[Options, dict[str, Array]]:
    """Return the options and variables of the discriminator `D`, by their original names."""
    state = _state_of(value, "D")
    if state.get("build_func_name") not in _CRITICS:
        raise SnapshotError(f"a discriminator built by {shown(state.get('build_func_name'))}")
    listed = dict(_listed(state, ""))
    listed.pop("lod", None)  # of progressive growing, unused since
    options = Options(_dict(state, "static_kwargs"), _READ_OF_D)
    for name in ("nonlinearity", "mapping_nonlinearity"):
        options.only(name, ("lrelu",))
    return options, listed


def _state_of(value: Any, name: str) -> dict[str, Any]:
    """Return the attributes of `D` or `Gs`."""
    state = _network_of(value, name).state or {}
    version = state.get("version")
    if type(version) is not int or version not in PROGRAMS:
        raise SnapshotError(
            f"a TensorFlow network of version {shown(version)}: only stylegan2 (4) and "
            "stylegan2-ada (5) are supported, not StyleGAN1 or older"
        )
    return {str(name): part for name, part in state.items()}


def _network_of(value: Any, name: str) -> TensorFlowNetwork:
    """Return the network called `name`: by name, by position, or as the only one of its kind.

    The official programs write (G, D, Gs). Other files have one of them, or a list, a longer tuple
    or a dict.
    """
    if isinstance(value, dict) and isinstance(value.get(name), TensorFlowNetwork):
        return value[name]  # type: ignore[no-any-return]  # checked in the line above
    listed = value.values() if isinstance(value, dict) else value
    entries = [value] if isinstance(value, TensorFlowNetwork) else list(listed)
    networks = [entry for entry in entries if isinstance(entry, TensorFlowNetwork)]
    called = [network for network in networks if (network.state or {}).get("name") == name]
    if len(called) == 1:
        return called[0]
    place = {"D": 1, "Gs": 2}[name]
    if len(entries) >= 3 and entries[:3] == networks[:3]:
        return networks[place]
    words = ", ".join(
        f"{shown(n.state.get('name'))} built by {shown(n.state.get('build_func_name'))}"
        for n in networks
        if n.state
    )
    other = [shown(entry) for entry in entries if not isinstance(entry, TensorFlowNetwork)]
    raise SnapshotError(
        f"{other[0] if other else 'networks'} in the place of {name}: it has neither the three "
        f"TensorFlow networks G, D and Gs, nor one called {name}, but {words or 'no network'} and "
        f"{len(other)} other values. Load it with the program that wrote it and save {name} alone "
        "or as (G, D, Gs)"
    )


def _options_of_parts(state: dict[str, Any]) -> dict[Any, Any]:
    """Return the construction arguments of Gs and its parts, which must agree."""
    merged = dict(_dict(state, "static_kwargs"))
    for part, network in _dict(state, "components").items():
        given = (network.state or {}).get("static_kwargs")
        for name, theirs in given.items() if isinstance(given, dict) else ():
            if name in _READ and name in merged and not _same(merged[name], theirs):
                raise SnapshotError(
                    f"{shown(name)} is {shown(merged[name])} for Gs and {shown(theirs)} for its "
                    f"{part} network"
                )
            merged.setdefault(name, theirs)
    return merged


def _same(first: Any, second: Any) -> bool:
    """Return whether two options agree; lists are compared later, on reading."""
    simple = isinstance(first, str | int | float | None)
    return first == second if simple and isinstance(second, str | int | float | None) else True


def _variables(state: dict[str, Any]) -> Iterator[tuple[str, Array]]:
    """Yield the variables of Gs and its two components by full name."""
    components = _dict(state, "components")
    if set(components) != {"synthesis", "mapping"}:
        raise SnapshotError("the network Gs is not made of a synthesis and a mapping network")
    seen = set()
    for part, network in [("", state), *components.items()]:
        if part:
            network = network.state if isinstance(network, TensorFlowNetwork) else None
        if not isinstance(network, dict) or (part and network.get("components")):
            raise SnapshotError(f"the component {part} is not a TensorFlow network")
        function = network.get("build_func_name")
        if not (isinstance(function, str) and function in _FUNCTIONS[part]):
            raise SnapshotError(
                f"a network built by {shown(function)}, which is not a StyleGAN2 generator of "
                "configuration E or F"
            )
        for full, array in _listed(network, part):
            if full in seen:
                raise SnapshotError(f"the variable {shown(full)} occurs twice")
            seen.add(full)
            yield full, array


def _listed(network: dict[Any, Any], part: str) -> Iterator[tuple[str, Array]]:
    """Yield the variables of one network, with `part` as a prefix of their names."""
    listed = network.get("variables")
    if not isinstance(listed, list):
        raise SnapshotError("a TensorFlow network without variables")
    for entry in listed:
        name, tensor = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, None)
        if isinstance(tensor, NumpyArray):
            tensor = tensor.tensor
        if not (isinstance(name, str) and isinstance(tensor, StoredTensor)):
            what = f" ({shown(name)}: {shown(tensor)})" if name is not None else ""
            raise SnapshotError(f"a variable that is not a name with float32 numbers{what}")
        full = f"{part}/{name}".lstrip("/")
        if len(full) > _MAX_NAME:
            raise SnapshotError(f"the variable {shown(full)} is too long")
        yield full, array_of(tensor, full)


def _check_generation(variables: dict[str, Array]) -> None:
    """Refuse relatives of StyleGAN2 whose generators compute different images."""
    for name in variables:
        if "ToRGB_lod" in name:
            raise SnapshotError(
                "a progressively grown generator (ToRGB_lod: StyleGAN1, or StyleGAN2 of "
                "configurations A to D); only configurations E and F are supported"
            )
        if "LabelConcat" in name:
            raise SnapshotError(
                "a conditional network of the 2019 program (LabelConcat); conditional networks "
                "are supported from stylegan2-ada on"
            )


class Options:
    """The construction arguments; absent ones have the defaults of the TensorFlow programs."""

    def __init__(self, given: dict[Any, Any], read: frozenset[str]) -> None:
        self.given = given
        for name, value in given.items():
            if name not in {*read, *_IGNORED, *_HARMLESS, *_SIDES}:
                raise SnapshotError(
                    f"the option {shown(name)} of its networks is unknown (its value is "
                    f"{shown(value)}), and may change the images"
                )
        for name, harmless in _HARMLESS.items():
            self.only(name, harmless)
        self._check_sides()
        kernel = given.get("resample_kernel")
        if kernel not in (None, [1, 3, 3, 1], (1, 3, 3, 1)):
            raise SnapshotError(
                f"its resample_kernel is {_in_full(kernel)}, not [1, 3, 3, 1], the only one "
                "supported"
            )

    def only(self, name: str, harmless: tuple[Any, ...]) -> None:
        """Refuse an option unless its value is harmless."""
        value = self.given.get(name, harmless[0])
        if not any(type(value) is type(one) and value == one for one in harmless):
            raise SnapshotError(
                f"its {name} is {shown(value)}, which changes the images; supported is "
                f"{' or '.join(map(repr, harmless))}"
            )

    def _check_sides(self) -> None:
        """Refuse images that are not square."""
        resolution = self.given.get("resolution", 1024)
        for name in _SIDES:
            side = self.given.get(name)
            if side is not None and (type(side) is not int or side != resolution):
                raise SnapshotError(
                    f"its {name} is {shown(side)} and its resolution {shown(resolution)}: only "
                    "square images are supported"
                )

    def whole(self, name: str, default: int) -> int:
        value = self.given.get(name, default)
        if type(value) is not int or not 0 <= value < 2**31:
            raise SnapshotError(f"its {name} is {shown(value)}, not a count")
        return value

    def one(self, name: str, default: T) -> T:
        value = self.given.get(name, default)
        if type(value) is not type(default):
            raise SnapshotError(f"its {name} is {shown(value)}")
        return value

    def real(self, name: str, default: float) -> float:
        value = self.given.get(name, default)
        if not (type(value) in (int, float) and 0 < value < 1e9):
            raise SnapshotError(f"its {name} must be above 0 and finite, got {shown(value)}")
        return float(value)

    def clamp(self) -> float | None:
        """Return the clamp of the layers' outputs, or None."""
        return None if self.given.get("conv_clamp") is None else self.real("conv_clamp", 0)


def _config_of(options: Options, variables: dict[str, Array]) -> GeneratorConfig:
    resolution = options.whole("resolution", 1024)
    labels, w_dim = options.whole("label_size", 0), options.whole("dlatent_size", 512)
    layers = options.whole("mapping_layers", 8)
    blocks = [2**power for power in range(2, resolution.bit_length())]
    return GeneratorConfig(
        resolution=resolution,
        img_channels=options.whole("num_channels", 3),
        labels=labels,
        z_dim=options.whole("latent_size", 512),
        w_dim=w_dim,
        widths=tuple(
            outputs(variables, f"synthesis/{block}x{block}/Conv{'1' if block > 4 else ''}/weight")
            for block in blocks
        ),
        architecture=options.one("architecture", "skip"),
        activation=options.one("nonlinearity", "lrelu"),
        conv_clamp=options.clamp(),
        use_noise=options.one("use_noise", True),
        mapping_layers=layers,
        mapping_width=outputs(variables, "mapping/Dense0/weight") if layers > 1 else w_dim,
        mapping_activation=options.one("mapping_nonlinearity", "lrelu"),
        mapping_lr_multiplier=options.real("mapping_lrmul", 0.01),
        embed_width=outputs(variables, "mapping/LabelEmbed/weight") if labels else 0,
        w_avg_beta=_average_rate(options),
    )


def _average_rate(options: Options) -> float:
    """Return the decay of the average of w, used only in training; None means no average."""
    for name in ("w_avg_beta", "dlatent_avg_beta"):
        if options.given.get(name) is not None:
            return options.real(name, 0.995)
    return 0.995


def _in_full(value: Any) -> str:
    """Return a short list of numbers in full, and other values as in other messages."""
    flat = isinstance(value, list | tuple) and len(value) <= 16
    if flat and all(isinstance(each, int | float) for each in value):
        return str(list(value))
    return shown(value)


def outputs(variables: dict[str, Array], name: str) -> int:
    """Return the number of outputs of a layer's weights."""
    array = variables.get(name)
    if array is None or not array.ndim:
        raise SnapshotError(f"the variable {name} is missing")
    return int(array.shape[-1])


def _renamed(config: GeneratorConfig, variables: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    """Yield every tensor of the network by our name; refuse unused variables."""
    left = set(variables) - {"lod", "synthesis/lod"}  # of progressive growing, unused since
    if not config.use_noise:
        left -= {f"synthesis/noise{index}" for index in range(len(config.noise_sizes))}
    for name in GeneratorNetwork.skeleton(config).state_dict():
        theirs, dimensions, change = _origin(name)
        array = variables.get(theirs)
        if array is None:
            raise SnapshotError(f"the variable {theirs} is missing")
        if array.ndim != dimensions:
            raise SnapshotError(f"the variable {theirs} has shape {array.shape}")
        left.discard(theirs)
        yield name, change(array)
    if left:
        raise SnapshotError(f"the variable {shown(min(left))} is unknown")


def _origin(name: str) -> tuple[str, int, Callable[[Array], Array]]:
    """Return the variable of one of our tensors, its number of dimensions and its conversion."""
    if name == "mapping.w_avg":
        return "dlatent_avg", 1, _as_is
    room, place, leaf = name.split(".", 2)
    if room == "mapping":
        layer = "LabelEmbed" if place == "embed" else place.replace("fc", "Dense")
        dense = leaf == "weight"
        return f"mapping/{layer}/{leaf}", 2 if dense else 1, np.transpose if dense else _as_is
    side = int(place.removeprefix("b"))
    if leaf == "const":
        return "synthesis/4x4/Const/const", 4, lambda array: array.reshape(array.shape[1:])
    layer, leaf = leaf.split(".", 1)
    if leaf == "noise_const":
        index = 2 * side.bit_length() - (7 if layer == "conv0" else 6) if side > 4 else 0
        return f"synthesis/noise{index}", 4, lambda array: array.reshape(array.shape[2:])
    theirs = "Conv" if (side, layer) == (4, "conv1") else _LAYERS[layer]
    variable = f"synthesis/{side}x{side}/{theirs}/{_LEAVES.get(leaf, leaf)}"
    if leaf == "affine.weight":
        return variable, 2, np.transpose
    if leaf == "affine.bias":  # stored relative to 0, used relative to 1
        return variable, 1, lambda array: array + np.float32(1)
    if leaf == "weight":
        return variable, 4, _convolution if layer == "conv0" else _correlation
    return variable, 0 if leaf == "noise_strength" else 1, _as_is


def _as_is(array: Array) -> Array:
    return array


def _correlation(array: Array) -> Array:
    """Transpose [height, width, in, out] to [out, in, height, width]."""
    return array.transpose(3, 2, 0, 1)


def _convolution(array: Array) -> Array:
    """Also rotate the kernels: upsampling layers are stored the other way round."""
    return array[::-1, ::-1].transpose(3, 2, 0, 1)


def _dict(state: dict[str, Any], name: str) -> dict[Any, Any]:
    value = state.get(name)
    if not isinstance(value, dict):
        raise SnapshotError(f"the network Gs has no {name}")
    return value
