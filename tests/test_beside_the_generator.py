"""Network files of other programs: what lies beside the generator never decides."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import pathlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pickle_writer import Built, Call, Named, Object, pickled
from test_snapshot import CONFIG, official
from test_tensorflow_files import PLAIN, options_of, tf_file, tf_network, variables_of
from test_tensorflow_files import network_of as tf_numbers

from fgaug.errors import SnapshotError
from gan_worker.files.discriminators import read_discriminator
from gan_worker.files.snapshot import Snapshot, read_snapshot
from gan_worker.networks import GeneratorNetwork


def generator(kind: torch.dtype = torch.float32) -> Call:
    """Return a generator as the official program pickles it; its numbers are always the same."""
    torch.manual_seed(3)
    return official(GeneratorNetwork(CONFIG).requires_grad_(False).to(kind), CONFIG)


def read(folder: Path, value: Any, protocol: int = 4) -> Snapshot:
    path = folder / "x.pkl"
    path.write_bytes(pickled(value, protocol))
    return read_snapshot(path)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return read(tmp_path_factory.mktemp("plain"), {"G_ema": generator()})


def same(one: Snapshot, other: Snapshot) -> bool:
    tensors = all(torch.equal(one.tensors[name], other.tensors[name]) for name in other.tensors)
    return tensors and one.config == other.config and one.tensors.keys() == other.tensors.keys()


def module(class_name: str, **meta: Any) -> Call:
    state = {"_parameters": {}, "_buffers": {}, "_modules": {}}
    given = {"type": "class", "version": 6, "class_name": class_name, "state": state} | meta
    return Call("torch_utils.persistence", "_reconstruct_persistent_obj", given)


BESIDE: dict[str, Any] = {
    "half": torch.ones(3, dtype=torch.float16),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "bool": torch.ones(3, dtype=torch.bool),
    "uint8": torch.ones(3, dtype=torch.uint8),
    "complex": torch.ones(3, dtype=torch.complex64),
    "empty tensor": torch.zeros(0, 4),
    "tensors by step": {"Adam": [torch.tensor(5), {(0, "a"): torch.zeros(2)}]},
    "torch words": [torch.Size([2, 3]), torch.float16, torch.device("cuda", 1)],
    "set": {1, 2, "three"},
    "frozenset": frozenset({"a", (1, 2)}),
    "keys": {None: 1, (1, "a"): 2, b"b": 3, 2.5: 4, frozenset({1}): 5},
    "numpy arrays": [np.arange(6), np.zeros((2, 2), bool), np.array(["a", None], object)],
    "numpy texts": [np.array(["a", "bc"]), np.array(["2024-01-01"], "M8[D]")],
    "numpy records": np.zeros(2, [("a", "i4"), ("b", ">f8")]),
    "numpy scalars": [np.float16(1), np.int64(2), np.bool_(True), np.str_("x"), np.uint8(3)],
    "numpy types": [np.dtype("i2"), np.dtype(">f4"), np.dtype([("a", "f4")]), np.float32],
    "dicts": [collections.OrderedDict(a=1), collections.defaultdict(list, a=[1])],
    "counter": collections.Counter("aab"),
    "namespace": argparse.Namespace(lr=0.1, path=pathlib.PurePosixPath("a/b.zip")),
    "windows path": Call("pathlib", "WindowsPath", "C:\\", "data"),
    "pathlib of 3.13": Call("pathlib._local", "PosixPath", "a"),
    "times": [datetime.datetime(2024, 5, 6), datetime.timedelta(3), datetime.date(2024, 1, 1)],
    "numbers": [decimal.Decimal("1.5"), uuid.UUID(int=3), complex(1, 2), 10**400, -(10**30)],
    "slices": [slice(1, None), range(4), ...],
    "functions by name": [torch.nn.functional.relu, len, torch.optim.Adam],
    "a partial": Call("functools", "partial", Named("torch", "add")),
    "called again": Built(Call("a.b", "c", [1]), {"x": Call("d", "e")}),
    "EasyDict of others": Object("easydict", "EasyDict", {"a": 1}),
    "omegaconf": Object("omegaconf.dictconfig", "DictConfig", {"_content": {}}),
    "bytes": [b"", b"abc", bytearray(b"abc"), b"x" * 300],
    "ordered dict with attributes": torch.nn.Linear(2, 2).state_dict(),
    "a plain torch module": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()),
    "a class nobody has": module("MultiScaleD", version=99),
    "another place of persistence": Call("src.torch_utils.persistence", "_rebuild", {"a": 1}),
    "a storage of another order": Call("torch.storage", "_load_from_bytes", b"123"),
    "something to run": Call("os", "system", "touch ran"),
    "nothing to call": module("Discriminator", state=3),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_lies_beside_the_generator_does_not_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Snapshot, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in BESIDE.items():
        for pair in ({"D": value, "G_ema": generator()}, {"G_ema": generator(), "D": value}):
            assert same(read(tmp_path, pair, protocol), expected), name
    assert not (tmp_path / "ran").exists()
    everything = {**BESIDE, "G_ema": generator(), "again": list(BESIDE.values())}
    assert same(read(tmp_path, everything, protocol), expected)


@pytest.mark.parametrize("place", ["cuda:3", "mps", "xpu:0", "hpu"])
def test_storages_of_any_device_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Snapshot, place: str
) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: place)
    assert same(read(tmp_path, {"G_ema": generator()}), expected)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_other_precisions_are_told_and_used_as_float32(
    tmp_path: Path, expected: Snapshot, kind: torch.dtype
) -> None:
    found = read(tmp_path, {"G_ema": generator(kind)})
    assert found.stored_as == str(kind).removeprefix("torch.")
    assert expected.stored_as == "float32"
    for name, tensor in expected.tensors.items():
        assert found.tensors[name].dtype == torch.float32
        assert torch.equal(found.tensors[name], tensor.to(kind).float())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.int32, torch.complex64])
def test_weights_of_other_number_types_are_refused(tmp_path: Path, kind: torch.dtype) -> None:
    name = str(kind).removeprefix("torch.")
    state = {"_buffers": {"w_avg": torch.ones(8, dtype=kind)}}
    network = official(
        GeneratorNetwork(CONFIG).requires_grad_(False), CONFIG, MappingNetwork=state
    )
    with pytest.raises(SnapshotError, match=rf"w_avg' is stored as {name}, .*\.float\(\)"):
        read(tmp_path, {"G_ema": network})


def test_float64_beyond_float32_is_refused(tmp_path: Path) -> None:
    state = {"_buffers": {"w_avg": torch.full((8,), 1e300, dtype=torch.float64)}}
    network = official(
        GeneratorNetwork(CONFIG).requires_grad_(False), CONFIG, MappingNetwork=state
    )
    with pytest.raises(SnapshotError, match="w_avg contains NaN or infinity"):
        read(tmp_path, {"G_ema": network})


# ---- under which name the generator lies


def test_a_generator_without_the_usual_name_is_read_where_it_is_clear(
    tmp_path: Path, expected: Snapshot
) -> None:
    other = module("Discriminator")
    for value, name, averaged in [
        (generator(), "a generator alone", False),
        ({"g_ema": generator(), "g": generator()}, "g_ema", True),
        ({"ema": generator(), "generator": generator()}, "ema", True),
        ({"generator": generator(), "discriminator": other}, "generator", False),
        ({"net": generator(), "G_ema": None, "epoch": 3}, "net", False),
    ]:
        found = read(tmp_path, value)
        assert same(found, expected)
        assert (found.network, found.averaged) == (name, averaged)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"G": generator(), "D": None}, r"only 2 entries \('G', 'D'\); .* are 'G'"),
        ({"netG": generator()}, "'G_ema': G_ema"),
        ({"a": generator(), "b": generator()}, "the generators in it are 'a', 'b'"),
        ({"G_ema": {"synthesis.b4.const": torch.zeros(2)}}, "are none"),
        ({"G_ema": Call("fork.networks", "Generator")}, "G_ema is a value of 'fork.networks Gen"),
        (module("Discriminator"), "contains a 'Discriminator', not a generator"),
        (Call("fork", "Generator"), "only a value of 'fork Generator', an unknown name"),
        ([generator()], "three TensorFlow networks"),
        (torch.zeros(3), "no generator"),
    ],
)
def test_where_it_is_not_clear_the_message_says_how_to_save_it(
    tmp_path: Path, value: Any, words: str
) -> None:
    with pytest.raises(SnapshotError, match=words):
        read(tmp_path, value)


@pytest.mark.parametrize("version", [99, 5, 7, 6.0, True, "6", None])
def test_an_unknown_persistence_version_is_refused_with_its_number(
    tmp_path: Path, version: Any
) -> None:
    network = generator()
    network.arguments[0]["version"] = version
    with pytest.raises(SnapshotError, match=rf"in version {version!r} of the persistence format"):
        read(tmp_path, {"G_ema": network})
    mapping = generator()
    mapping.arguments[0]["state"]["_modules"]["mapping"].arguments[0]["version"] = version
    with pytest.raises(SnapshotError, match=rf"mapping was written in version {version!r}"):
        read(tmp_path, {"G_ema": mapping})


def test_what_the_generator_needs_decides(tmp_path: Path) -> None:
    for change, words in [
        (
            {"MappingNetwork": {"_buffers": {"w_avg": Call("a", "b")}}},
            "a value of 'a b', an unknown name",
        ),
        ({"MappingNetwork": {"_buffers": {"w_avg": torch.zeros(0)}}}, "reaches beyond its 0"),
        ({"MappingNetwork": {"_modules": {"fc0": module("Linear")}}}, "mapping.fc0 is a 'Linear'"),
        ({"GeneratorNetwork": {"z_dim": Call("numpy", "int")}}, "z_dim .* is a value of 'numpy"),
        ({"GeneratorNetwork": {"_modules": Call("a", "b")}}, "a Generator without _modules"),
    ]:
        network = GeneratorNetwork(CONFIG).requires_grad_(False)
        with pytest.raises(SnapshotError, match=words):
            read(tmp_path, {"G_ema": official(network, CONFIG, **change)})


def test_a_foreign_discriminator_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    for value, words in [
        (module("ProjectedDiscriminator"), "under the name 'D', but 'ProjectedDiscriminator'"),
        (Call("pg_modules.discriminator", "D"), "but a value of 'pg_modules.discriminator D'"),
        (None, "no discriminator under the name 'D'"),
    ]:
        path.write_bytes(pickled({"G_ema": generator(), "D": value}))
        assert read_snapshot(path).network == "G_ema"
        with pytest.raises(SnapshotError, match=words):
            read_discriminator(path)


# ---- TensorFlow


def averaged(name: str = "Gs", version: int = 5, **options: Any) -> Object:
    parts = variables_of(tf_numbers(PLAIN))
    functions = {"synthesis": "G_synthesis", "mapping": "G_mapping"}
    made = {part: tf_network(f, parts[part], version) for part, f in functions.items()}
    given = {"static_kwargs": options_of(PLAIN) | options, "components": made, "name": name}
    return tf_network("G_main", parts[""], version, **given)


def test_gs_is_found_by_its_name_or_its_place(tmp_path: Path) -> None:
    plain = read_snapshot(tf_file(tmp_path / "plain.pkl", PLAIN))
    g, d = tf_network("G_main", {}, name="G"), tf_network("D_main", {}, name="D")
    for value in [
        (averaged(),),
        [g, d, averaged()],
        {"G": g, "D": d, "Gs": averaged("named by its key")},
        (g, d, averaged(), {"kimg": 3}, np.arange(3)),
        (averaged(), g, d),
        (d, averaged()),
        (None, Call("argparse", "Namespace"), averaged()),
        (g, d, averaged("Gs_10k")),
    ]:
        for protocol in (2, 3, 5):
            assert same(read(tmp_path, value, protocol), plain)


@pytest.mark.parametrize("count", [1, 2])
def test_networks_among_which_gs_is_not_clear_are_named(tmp_path: Path, count: int) -> None:
    with pytest.raises(SnapshotError, match=r"'G' built by 'G_main'.*save Gs alone or as"):
        read(tmp_path, (averaged("G"),) * count)


IGNORED: list[dict[str, Any]] = [
    {"truncation_psi_val": 0.5, "truncation_cutoff_val": 8},
    {"is_validation": True, "is_training": False, "is_template_graph": False},
    {"dtype": "float32", "structure": "auto", "return_dlatents": True},
    {"fmap_decay": 1.0, "fmap_min": 1, "fmap_max": 7, "fmap_base": 99},
    {"dlatent_broadcast": 6, "normalize_latents": True, "style_mixing_prob": None},
    {"mapping_func": "G_mapping", "synthesis_func": "G_synthesis_stylegan2"},
    {"dlatent_avg_beta": None, "resolution_h": 16, "num_fp16_res": 0},
]


@pytest.mark.parametrize("options", IGNORED, ids=lambda o: "-".join(o))
def test_options_that_change_nothing_are_ignored(tmp_path: Path, options: dict) -> None:
    plain = read_snapshot(tf_file(tmp_path / "plain.pkl", PLAIN))
    for version in (4, 5):
        path = tf_file(tmp_path / "x.pkl", PLAIN, version=version, options=options)
        assert same(read_snapshot(path), plain)


def test_an_old_name_of_an_option_is_known(tmp_path: Path) -> None:
    given = {key: value for key, value in options_of(PLAIN).items() if key != "w_avg_beta"}
    path = tf_file(tmp_path / "x.pkl", PLAIN, static_kwargs={**given, "dlatent_avg_beta": 0.9})
    assert read_snapshot(path).config.w_avg_beta == 0.9


def test_parts_that_contradict_the_whole_are_refused(tmp_path: Path) -> None:
    def with_part(part: str, **options: Any) -> Callable[[], Object]:
        network = averaged()
        network.state["components"][part].state["static_kwargs"] = options
        return network

    agreeing = with_part("synthesis", resolution=16, fused_modconv=False, randomize_noise=True)
    assert read(tmp_path, (agreeing,)).resolution == 16
    for part, options, words in [
        ("synthesis", {"nonlinearity": "relu"}, "'nonlinearity' is 'lrelu' for Gs and 'relu' for"),
        ("mapping", {"mapping_lrmul": 0.1, "latent_size": 7}, "for its mapping network"),
        ("mapping", {"normalize_latents": False}, "normalize_latents is False"),
        ("synthesis", {"blur_filter": [1, 2, 1]}, "option 'blur_filter' .* is a list"),
    ]:
        with pytest.raises(SnapshotError, match=words):
            read(tmp_path, (with_part(part, **options),))


def test_options_of_the_discriminator_are_judged_likewise(tmp_path: Path) -> None:
    golden = Path(__file__).parent / "data" / "stylegan2" / "tf" / "a.pkl"
    wanted = read_discriminator(golden)
    names = _critic_variables(wanted)

    def critic(**options: Any) -> Path:
        config = wanted.config
        given = {"resolution": config.resolution, "num_channels": config.img_channels}
        network = tf_network("D_main", names, static_kwargs=given | options, name="D")
        path = tmp_path / "d.pkl"
        path.write_bytes(pickled((network, averaged()), 3))
        return path

    for options in [
        {"fused_modconv": True, "dtype": "float32"},
        {"resolution_w": 32, "resolution_h": 32, "conditioning": None},
        {"mbstd_group_size": None, "is_validation": True},
        {"structure": "fixed", "fmap_decay": 1.0, "nonlinearity": "lrelu"},
    ]:
        found = read_discriminator(critic(**options))
        assert all(torch.equal(found.tensors[n], t) for n, t in wanted.tensors.items())
    for options, words in [
        ({"nonlinearity": "relu"}, "nonlinearity is 'relu', which changes"),
        ({"resolution_w": 64}, "resolution_w is 64 and its resolution 32"),
        ({"conditioning": "sum"}, "conditioning is 'sum'"),
        ({"blur_filter": None}, "option 'blur_filter' .* unknown .*None"),
    ]:
        with pytest.raises(SnapshotError, match=words):
            read_discriminator(critic(**options))


def _critic_variables(stored: Any) -> dict[str, np.ndarray]:
    """Return a discriminator's tensors as TensorFlow names and lays them out."""
    layers = {"fromrgb": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
    last = {"conv": "4x4/Conv", "fc": "4x4/Dense0", "out": "Output"}
    found = {}
    for name, tensor in stored.tensors.items():
        block, layer, leaf = name.split(".")
        side = block[1:]
        place = f"{side}x{side}/{layers[layer]}" if layer in layers else last[layer]
        array = tensor.numpy()
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        found[f"{place}/{leaf}"] = np.ascontiguousarray(array)
    return found
