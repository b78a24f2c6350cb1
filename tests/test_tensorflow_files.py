"""TensorFlow network files: official ones give the official images, hostile ones one error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pickle_writer import Built, Call, Named, Object, nested, pickled

from fgaug.errors import SnapshotError
from gan_worker.files.snapshot import read_snapshot
from gan_worker.generators.stylegan2 import load_generator
from gan_worker.networks import GeneratorConfig, GeneratorNetwork

GOLDENS = Path(__file__).parent / "data" / "stylegan2"
TOLERANCE = 5e-5  # TensorFlow's own arithmetic lies 1e-5 from PyTorch's
PLAIN = GeneratorConfig(
    resolution=16,
    img_channels=3,
    labels=0,
    z_dim=6,
    w_dim=8,
    widths=(6, 5, 4),
    mapping_layers=2,
    mapping_width=7,
)
CONDITIONAL = GeneratorConfig(
    resolution=8,
    img_channels=1,
    labels=3,
    z_dim=4,
    w_dim=5,
    widths=(3, 2),
    architecture="orig",
    activation="relu",
    conv_clamp=256.0,
    mapping_layers=1,
    mapping_width=5,
    embed_width=4,
    w_avg_beta=0.99,
)
Variables = dict[str, Any]


# ---- a writer of such files, from the table of variables


def network_of(config: GeneratorConfig) -> GeneratorNetwork:
    """Return a network whose numbers all differ."""
    torch.manual_seed(5)
    network = GeneratorNetwork(config).requires_grad_(False)
    for tensor in network.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape))
    return network


def variables_of(network: GeneratorNetwork) -> dict[str, Variables]:
    """Return the TensorFlow variables of a network by component; `` is Gs itself."""
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    config = network.config
    mapping: Variables = {}
    for index in range(config.mapping_layers):
        mapping[f"Dense{index}/weight"] = tensors[f"mapping.fc{index}.weight"].T
        mapping[f"Dense{index}/bias"] = tensors[f"mapping.fc{index}.bias"]
    if config.labels:
        mapping["LabelEmbed/weight"] = tensors["mapping.embed.weight"].T
        mapping["LabelEmbed/bias"] = tensors["mapping.embed.bias"]
    order = ["b4.conv1"]
    order += [f"b{side}.{conv}" for side in config.resolutions[1:] for conv in ("conv0", "conv1")]
    synthesis: Variables = {
        f"noise{index}": tensors[f"synthesis.{name}.noise_const"][None, None]
        for index, name in enumerate(order)
        if config.use_noise
    }
    synthesis["4x4/Const/const"] = tensors["synthesis.b4.const"][None]
    names = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB", "skip": "Skip"}
    for full, tensor in tensors.items():
        room, block, *rest = full.split(".")
        if room != "synthesis" or rest[0] == "const" or rest[-1] == "noise_const":
            continue
        side = block[1:]
        layer = "Conv" if (block, rest[0]) == ("b4", "conv1") else names[rest[0]]
        leaf = "/".join(rest[1:]).replace("affine/", "mod_")
        if leaf == "weight":
            if rest[0] == "conv0":
                tensor = tensor[:, :, ::-1, ::-1]
            tensor = tensor.transpose(2, 3, 1, 0)
        elif leaf == "mod_weight":
            tensor = tensor.T
        elif leaf == "mod_bias":
            tensor = tensor - 1
        elif leaf == "noise_strength":
            tensor = np.float32(tensor)
        synthesis[f"{side}x{side}/{layer}/{leaf}"] = tensor
    own: Variables = {"dlatent_avg": tensors["mapping.w_avg"]}
    return {"": own, "synthesis": synthesis, "mapping": mapping}


def options_of(config: GeneratorConfig) -> dict[str, Any]:
    return {
        "num_channels": config.img_channels,
        "resolution": config.resolution,
        "label_size": config.labels,
        "latent_size": config.z_dim,
        "dlatent_size": config.w_dim,
        "mapping_layers": config.mapping_layers,
        "architecture": config.architecture,
        "nonlinearity": config.activation,
        "conv_clamp": config.conv_clamp,
        "use_noise": config.use_noise,
        "w_avg_beta": config.w_avg_beta,
        "resample_kernel": [1, 3, 3, 1],
        "truncation_psi": 0.5,
        "num_fp16_res": 4,
    }


def tf_network(function: str, variables: Any, version: int = 5, /, **more: Any) -> Object:
    listed = list(variables.items()) if isinstance(variables, dict) else variables
    state = {
        "version": version,
        "name": "Gs",
        "static_kwargs": {},
        "components": {},
        "build_module_src": "import os; os.abort()",
        "build_func_name": function,
        "variables": listed,
        "input_shapes": [[None, 4], [None, 0]],
    }
    return Object("dnnlib.tflib.network", "Network", state | more)


def tf_file(
    path: Path,
    config: GeneratorConfig,
    protocol: int = 3,
    version: int = 5,
    change: Callable[[dict[str, Variables]], Any] = lambda _: None,
    options: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write (G, D, Gs) to `path`; G and D are empty."""
    parts = variables_of(network_of(config))
    change(parts)
    functions = {"synthesis": "G_synthesis", "mapping": "G_mapping"}
    if version == 4:
        functions["synthesis"] = "G_synthesis_stylegan2"
        parts[""]["lod"] = np.float32(0)
    made = {
        name: tf_network(function, parts[name], version) for name, function in functions.items()
    }
    kwargs = options_of(config) | (options or {})
    gs = tf_network(
        "G_main", parts[""], version, **{"static_kwargs": kwargs, "components": made} | more
    )
    other = tf_network("D_main", {"Output/bias": np.zeros(1, np.float32)}, version)
    path.write_bytes(pickled((other, other, gs), protocol))
    return path


# ---- files that must load


@pytest.mark.parametrize("name", ["a", "e_resnet"])
def test_images_match_tensorflow(name: str) -> None:
    path = GOLDENS / "tf" / f"{name}.pkl"
    seeded, stored = load_generator(path, "seeded"), load_generator(path, "const")
    with np.load(GOLDENS / "tf" / f"{name}.npz") as goldens:
        for key, generator in (("seeded", seeded), ("const", stored), ("converted", stored)):
            index, theirs = goldens[f"{key}_index"], goldens[f"{key}_f32"]
            assert len(index) >= 5
            for (seed, psi, _, _), image in zip(index, theirs, strict=True):
                ours = generator.synthesize([int(seed)], psi)[0]
                np.testing.assert_allclose(ours, image, rtol=0, atol=TOLERANCE)
        off = []
        for (seed, psi, _, _), image in zip(
            goldens["seeded_index"], goldens["seeded_u8"], strict=True
        ):
            off.append(np.abs(seeded.generate([int(seed)], psi)[0].astype(int) - image))
    assert np.max(off) <= 1
    assert np.mean(off) <= 2e-4


def test_seeded_noise_gives_tensorflow_images_from_the_pytorch_file() -> None:
    generator = load_generator(GOLDENS / "a.pkl", "seeded")
    with np.load(GOLDENS / "tf" / "a.npz") as goldens:
        for (seed, psi, _, _), image in zip(
            goldens["seeded_index"], goldens["seeded_f32"], strict=True
        ):
            ours = generator.synthesize([int(seed)], psi)[0]
            np.testing.assert_allclose(ours, image, rtol=0, atol=TOLERANCE)


def test_the_facts_of_an_official_file() -> None:
    snapshot = read_snapshot(GOLDENS / "tf" / "a.pkl")
    assert (snapshot.kind, snapshot.network, snapshot.source) == ("stylegan2-ada", "Gs", "a.pkl")
    twin = read_snapshot(GOLDENS / "a.pkl")
    assert snapshot.config == twin.config
    assert snapshot.tensors.keys() == twin.tensors.keys()
    for name, tensor in snapshot.tensors.items():
        assert tensor.is_contiguous()
        assert torch.allclose(tensor, twin.tensors[name], rtol=0, atol=1e-7), name


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize(
    ("config", "version"),
    [(PLAIN, 5), (PLAIN, 4), (CONDITIONAL, 5)],
    ids=["plain", "2019", "conditional"],
)
def test_every_variable_finds_its_tensor(
    tmp_path: Path, config: GeneratorConfig, version: int, protocol: int
) -> None:
    snapshot = read_snapshot(tf_file(tmp_path / "x.pkl", config, protocol, version))
    assert snapshot.config == config
    assert snapshot.kind == {4: "stylegan2", 5: "stylegan2-ada"}[version]
    expected = network_of(config).state_dict()
    assert snapshot.tensors.keys() == expected.keys()
    for name, tensor in snapshot.tensors.items():
        assert torch.allclose(tensor, expected[name], rtol=0, atol=1e-6), name


def test_absent_options_have_the_programs_defaults(tmp_path: Path) -> None:
    names = ("architecture", "nonlinearity", "conv_clamp", "w_avg_beta", "resample_kernel")

    def bare(path: Path) -> Path:
        given = {name: value for name, value in options_of(PLAIN).items() if name not in names}
        return tf_file(path, PLAIN, static_kwargs=given)

    assert read_snapshot(bare(tmp_path / "x.pkl")).config == PLAIN


def test_a_network_without_noise(tmp_path: Path) -> None:
    config = GeneratorConfig(
        resolution=8, img_channels=1, labels=0, z_dim=4, w_dim=5, widths=(3, 2),
        use_noise=False, mapping_layers=1, mapping_width=5,
    )  # fmt: skip
    path = tf_file(tmp_path / "x.pkl", config)
    images = [load_generator(path, mode).generate([1], 0.7) for mode in ("const", "seeded")]
    assert np.array_equal(*images)


# ---- files that must not


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "version 3: only stylegan2"),
        ({"version": 6}, "version 6: only stylegan2"),
        (
            {"options": {"fused_scale": "auto"}},
            "'fused_scale' of its networks is unknown .*'auto",
        ),
        ({"options": {"normalize_latents": False}}, "normalize_latents is False, which changes"),
        ({"options": {"conditioning": "concat"}}, "conditioning is 'concat', which changes"),
        ({"options": {"dtype": "float64"}}, "dtype is 'float64', which changes"),
        ({"options": {"resolution_w": 32}}, "resolution_w is 32 and its resolution 16"),
        ({"options": {"resolution_h": 12}}, "resolution_h is 12 and its resolution 16"),
        ({"options": {"resolution_h": 16.0}}, "resolution_h is 16.0"),
        ({"options": {"w_avg_beta": -1}}, "w_avg_beta must be"),
        ({"options": {"resample_kernel": [1, 2, 1]}}, "resample_kernel"),
        ({"options": {"resample_kernel": nested(20000)}}, "resample_kernel"),
        ({"options": {"resolution": 2**20}}, "is missing|power of two"),
        ({"options": {"resolution": 32}}, "synthesis/32x32/Conv1/weight is missing"),
        ({"options": {"resolution": 8}}, "synthesis/16x16/.* is unknown|noise"),
        ({"options": {"resolution": True}}, "resolution is True"),
        ({"options": {"latent_size": 7}}, "mapping.fc0.weight has shape"),
        ({"options": {"label_size": 2}}, "LabelEmbed/weight is missing"),
        ({"options": {"mapping_layers": 2**20}}, "mapping_layers"),
        ({"options": {"mapping_layers": 3}}, "Dense2/weight is missing"),
        ({"options": {"architecture": "pyramid"}}, "architecture"),
        ({"options": {"architecture": 3}}, "architecture is 3"),
        ({"options": {"architecture": "resnet"}}, "Skip/weight is missing"),
        ({"options": {"conv_clamp": -1}}, "conv_clamp must be"),
        ({"options": {"conv_clamp": float("nan")}}, "conv_clamp must be"),
        ({"options": {"mapping_lrmul": "x"}}, "mapping_lrmul must be"),
        ({"options": {"use_noise": 1}}, "use_noise is 1"),
        ({"components": {}}, "not made of a synthesis and a mapping"),
        ({"components": 3}, "no components"),
        ({"components": {"synthesis": {}, "mapping": {}}}, "is not a TensorFlow network"),
        ({"static_kwargs": None}, "no static_kwargs"),
        ({"build_func_name": "G_style"}, "built by 'G_style'"),
        ({"variables": None}, "without variables"),
        ({"variables": [3]}, "not a name with float32 numbers"),
        ({"variables": [("dlatent_avg", 0.5)]}, "not a name with float32 numbers"),
        ({"variables": []}, "dlatent_avg is missing"),
        ({"variables": [("x" * 200, np.zeros(3, np.float32))]}, "too long"),
        ({"variables": [("x", np.float32(1)), ("x", np.float32(1))]}, "occurs twice"),
    ],
)
def test_networks_that_are_none_of_ours_are_refused(
    tmp_path: Path, changes: dict, message: str
) -> None:
    path = tf_file(tmp_path / "x.pkl", PLAIN, **changes)
    with pytest.raises(SnapshotError, match=rf"x\.pkl was refused: .*({message})"):
        read_snapshot(path)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("synthesis", "16x16/ToRGB_lod0/weight", np.ones((1, 1, 4, 3)), "configurations A to D"),
        ("mapping", "LabelConcat/weight", np.ones((3, 6)), "2019 program"),
        ("synthesis", "noise0", np.ones((1, 1, 5, 5)), "noise_const has shape"),
        ("synthesis", "noise0", np.ones((2, 1, 4, 4)), "reshape"),
        ("synthesis", "noise0", np.ones((4, 4)), "has shape"),
        ("synthesis", "noise9", np.ones((1, 1, 4, 4)), "noise9' is unknown"),
        ("synthesis", "4x4/Const/const", np.ones((1, 6, 4)), "Const/const has shape"),
        ("synthesis", "8x8/Conv1/weight", np.ones((3, 3, 5)), "Conv1/weight has shape"),
        ("synthesis", "8x8/Conv1/weight", np.ones((3, 3, 4, 5)), "conv1.weight has shape"),
        ("synthesis", "8x8/Conv1/mod_bias", np.full(5, np.nan), "NaN or infinity"),
        ("synthesis", "8x8/Conv1/bias", np.full(5, np.inf), "NaN or infinity"),
        ("synthesis", "8x8/Conv1/noise_strength", np.ones(1), "noise_strength has shape"),
        ("", "dlatent_avg", np.ones(9), "w_avg has shape"),
        ("", "lods", np.ones(9), "'lods' is unknown"),
        ("mapping", "Dense1/bias", None, "not a name with float32"),
    ],
)
def test_variables_that_do_not_fit_are_refused(
    tmp_path: Path, part: str, name: str, value: Any, message: str
) -> None:
    number = None if value is None else value.astype(np.float32)
    path = tf_file(
        tmp_path / "x.pkl", PLAIN, change=lambda parts: parts[part].update({name: number})
    )
    with pytest.raises(SnapshotError, match=rf"x\.pkl was refused: .*({message})"):
        read_snapshot(path)


F4 = np.dtype("f4")
OPENED = (Named("numpy", "ndarray"), (0,), b"b")
TWO = (1, (2,), F4, False, b"\x00" * 8)


@pytest.mark.parametrize(
    ("opened", "state"),
    [
        ((Named("numpy", "ndarray"), (2**44,), b"b"), TWO),
        ((Named("numpy", "dtype"), (0,), b"b"), TWO),
        ((Named("numpy", "ndarray"), (0,)), TWO),
        ((Named("numpy", "ndarray"), (0,), "b"), TWO),
        (OPENED, (1, (3,), F4, False, b"\x00" * 8)),
        (OPENED, (1, (1,), F4, False, b"\x00" * 8)),
        (OPENED, (1, (2**40, 2**40), F4, False, b"\x00" * 8)),
        (OPENED, (1, (-2,), F4, False, b"\x00" * 8)),
        (OPENED, (1, (-1, -2), F4, False, b"\x00" * 8)),
        (OPENED, (1, (2, 0), F4, False, b"")),
        (OPENED, (1, (2.0,), F4, False, b"\x00" * 8)),
        (OPENED, (1, (True, 2), F4, False, b"\x00" * 8)),
        (OPENED, (1, (1,) * 9, F4, False, b"\x00" * 4)),
        (OPENED, (1, [2], F4, False, b"\x00" * 8)),
        (OPENED, (2, (2,), F4, False, b"\x00" * 8)),
        (OPENED, (1, (2,), F4, 0, b"\x00" * 8)),
        (OPENED, (1, (1,), np.dtype("f8"), False, b"\x00" * 8)),
        (OPENED, (1, (1,), np.dtype("O"), False, [3])),
        (OPENED, (1, (2,), np.dtype(">f4"), False, b"\x00" * 8)),
        (OPENED, (1, (2,), np.dtype([("x", "f4")]), False, b"\x00" * 8)),
        (OPENED, (1, (2,), F4, False, [0.0, 0.0])),
        (OPENED, (1, (2,), F4, False)),
        (OPENED, {"shape": (2,)}),
    ],
)
def test_arrays_that_lie_are_refused(tmp_path: Path, opened: tuple, state: Any) -> None:
    array = Built(Call("numpy.core.multiarray", "_reconstruct", *opened), state)
    path = written(tmp_path, array)
    with pytest.raises(SnapshotError, match=r"x\.pkl was refused: a (numpy|key|plain)"):
        read_snapshot(path)


def test_the_array_that_does_not_lie_gets_further(tmp_path: Path) -> None:
    """A control of the test above, and arrays that change after they were filled."""
    array = Built(Call("numpy.core.multiarray", "_reconstruct", *OPENED), TWO)
    with pytest.raises(SnapshotError, match="three TensorFlow networks"):
        read_snapshot(written(tmp_path, array))
    with pytest.raises(SnapshotError, match="filled twice"):
        read_snapshot(written(tmp_path, Built(array, TWO)))
    for change in (lambda a: a, lambda a: np.asfortranarray(a)):
        path = tf_file(
            tmp_path / "x.pkl",
            PLAIN,
            change=lambda parts, change=change: parts["mapping"].update(
                {name: change(array) for name, array in parts["mapping"].items()}
            ),
        )
        assert read_snapshot(path).config == PLAIN


def written(folder: Path, *values: Any) -> Path:
    path = folder / "x.pkl"
    path.write_bytes(pickled(values, 3))
    return path


@pytest.mark.parametrize(
    "values",
    [
        (),
        (tf_network("G_main", {}),) * 2,
        (tf_network("G_main", {}),) * 4,
        (tf_network("G_main", {}), None, {}),
        (Call("dnnlib.tflib.network", "Network"),) * 3,
        (Built(tf_network("G_main", {}), {"version": 5}),) * 3,
        (Object("dnnlib.tflib.network", "Network", 3),) * 3,
        (Object("dnnlib.tflib.network", "Networks", {}),) * 3,
        (Object("collections", "OrderedDict", {}),) * 3,
        (Call("numpy.core.multiarray", "scalar", F4, b"\x00" * 8),) * 3,
        (Call("numpy.core.multiarray", "scalar", np.dtype("i4"), b"\x00" * 8),) * 3,
        (Call("numpy.core.multiarray", "scalar", np.dtype("O"), None),) * 3,
        (Call("numpy", "ndarray", (2**40,)),) * 3,
        (Built(Named("numpy", "ndarray"), {"x": 1}),) * 3,
    ],
    ids=range(14),
)
def test_tuples_of_something_else_are_refused(tmp_path: Path, values: tuple) -> None:
    with pytest.raises(SnapshotError, match=r"x\.pkl was refused: .+\. Give"):
        read_snapshot(written(tmp_path, *values))


def test_the_training_network_is_not_taken_for_the_average(tmp_path: Path) -> None:
    full, empty = tf_file(tmp_path / "f.pkl", PLAIN), tf_network("D_main", {})
    assert read_snapshot(full).network == "Gs"
    with pytest.raises(SnapshotError, match=r"no static_kwargs|not made of"):
        read_snapshot(written(tmp_path, tf_network("G_main", {}), empty, empty))


def test_damaged_files_end_in_one_kind_of_error(tmp_path: Path) -> None:
    whole = tf_file(tmp_path / "whole.pkl", CONDITIONAL).read_bytes()
    random = np.random.default_rng(11)
    path = tmp_path / "x.pkl"
    outcomes = {"read": 0, "refused": 0}
    for turn in range(200):
        damaged = bytearray(whole)
        for _ in range(1 + turn % 3):
            at = random.integers(len(whole))
            damaged[at] ^= 1 << int(random.integers(8))
        cut = len(whole) if turn % 5 else int(random.integers(len(whole)))
        path.write_bytes(damaged[:cut])
        try:
            read_snapshot(path)
            outcomes["read"] += 1
        except SnapshotError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5, outcomes
