"""Network files: official ones are read, hostile and damaged ones end in one clear error."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pickle_writer import Call, nested, pickled

from fgaug.errors import SnapshotError
from gan_worker.files.snapshot import read_snapshot
from gan_worker.networks import GeneratorConfig, GeneratorNetwork

GOLDENS = Path(__file__).parent / "data" / "stylegan2"
CONFIG = GeneratorConfig(
    resolution=16,
    img_channels=3,
    labels=2,
    z_dim=6,
    w_dim=8,
    widths=(6, 5, 4),
    architecture="orig",
    conv_clamp=256.0,
    mapping_layers=2,
    mapping_width=7,
    embed_width=8,
)


CLASSES = {
    "GeneratorNetwork": "Generator",
    "ToRgb": "ToRGBLayer",
    "FullyConnected": "FullyConnectedLayer",
    "SkipConvolution": "Conv2dLayer",
}


def official(module: torch.nn.Module, config: GeneratorConfig, **changes: Any) -> Call:
    """Return one of our modules as the official program would pickle it."""
    name = type(module).__name__
    numpy_one = Call("numpy.core.multiarray", "scalar", np.dtype("f8"), b"\x00" * 8)
    attributes: dict[str, dict[str, Any]] = {
        "GeneratorNetwork": {
            "z_dim": config.z_dim,
            "c_dim": config.labels,
            "w_dim": config.w_dim,
            "img_resolution": config.resolution,
            "img_channels": config.img_channels,
        },
        "SynthesisBlock": {"architecture": config.architecture},
        "SynthesisLayer": {
            "activation": config.activation,
            "conv_clamp": config.conv_clamp,
            "use_noise": config.use_noise,
            "act_gain": numpy_one,
        },
        "ToRgb": {"conv_clamp": config.conv_clamp},
        "MappingNetwork": {"num_layers": config.mapping_layers, "w_avg_beta": 0.995},
    }
    state = {
        "training": False,
        "_parameters": dict(module._parameters),
        "_buffers": dict(module._buffers),
        "_non_persistent_buffers_set": set(),
        "_modules": {key: official(m, config, **changes) for key, m in module._modules.items()},
        **attributes.get(name, {}),
        **changes.get(name, {}),
    }
    if name == "FullyConnected":
        state |= {"activation": module.activation, "bias_gain": module.bias_gain}
    meta = {
        "type": "class",
        "version": 6,
        "module_src": "import os; os.abort()",
        "class_name": CLASSES.get(name, name),
        "state": state,
    }
    return Call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)


def network_file(path: Path, config: GeneratorConfig, protocol: int = 4, **changes: Any) -> Path:
    network = GeneratorNetwork(config).requires_grad_(False)
    value = {"G_ema": official(network, config, **changes), "augment_pipe": None}
    path.write_bytes(pickled(value, protocol))
    return path


def storage_bytes(count: int) -> bytes:
    stream = io.BytesIO()
    storage = torch.zeros(count).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    torch.save(typed, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def tensor(storage: Any, size: tuple, stride: tuple, offset: int = 0) -> Call:
    return Call("torch._utils", "_rebuild_tensor_v2", storage, offset, size, stride, False, {})


def storage(stream: bytes) -> Call:
    return Call("torch.storage", "_load_from_bytes", stream)


# ---- files that must load


@pytest.mark.parametrize(
    ("name", "resolution", "channels", "labels"),
    [("tiny", 8, 1, 0), ("a", 32, 1, 0), ("c", 64, 3, 2), ("e_resnet", 32, 3, 0)],
)
def test_official_files_are_read(name: str, resolution: int, channels: int, labels: int) -> None:
    path = GOLDENS / f"{name}.pkl"
    snapshot = read_snapshot(path)
    found = (snapshot.resolution, snapshot.channels, snapshot.labels)
    assert found == (resolution, channels, labels)
    assert snapshot.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert snapshot.kind == "stylegan2-ada-pytorch"
    assert snapshot.config.architecture == ("resnet" if name == "e_resnet" else "skip")
    assert snapshot.config.conv_clamp is None
    with np.load(GOLDENS / f"{name}.npz") as goldens:
        assert np.array_equal(snapshot.tensors["mapping.w_avg"].numpy(), goldens["w_avg"])
    assert all(t.dtype == torch.float32 and t.is_contiguous() for t in snapshot.tensors.values())


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_options_come_from_the_modules_and_old_protocols_load(
    tmp_path: Path, protocol: int
) -> None:
    assert read_snapshot(network_file(tmp_path / "x.pkl", CONFIG, protocol)).config == CONFIG


def test_channels_last_weights_keep_their_order(tmp_path: Path) -> None:
    config = CONFIG
    network = GeneratorNetwork(config).requires_grad_(False)
    plain = {name: t.clone() for name, t in network.state_dict().items()}
    network.to(memory_format=torch.channels_last)
    path = tmp_path / "nhwc.pkl"
    path.write_bytes(pickled({"G_ema": official(network, config)}))
    tensors = read_snapshot(path).tensors
    assert tensors.keys() == plain.keys()
    assert all(torch.equal(tensors[name], plain[name]) for name in plain)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, gan_worker; assert 'torch' not in sys.modules; gan_worker.load_generator"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- files that must not


def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="is missing"):
        read_snapshot(tmp_path / "none.pkl")
    with pytest.raises(SnapshotError, match="cannot be read"):
        read_snapshot(tmp_path)
    torch.save({"G_ema": torch.zeros(2)}, tmp_path / "state.pt")
    for content in (b"", b"\x80\x04", b"hello", (tmp_path / "state.pt").read_bytes()):
        (tmp_path / "x.pkl").write_bytes(content)
        with pytest.raises(SnapshotError, match=r"x\.pkl was refused"):
            read_snapshot(tmp_path / "x.pkl")


def hostile(marker: Path) -> dict[str, bytes]:
    """Return attack files by name; each would create `marker` or exhaust memory."""
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    imported = Call("builtins", "__import__", "os")
    four = storage(storage_bytes(4))
    lying = storage_bytes(4).replace(b"K\x04", b"J\x00\x00\x00\x70", 1)
    module = {"type": "class", "version": 6, "module_src": code, "state": {}}
    return {
        "posix system": pickled(Call("posix", "system", command)),
        "os system, protocol 2": pickled(Call("os", "system", command), 2),
        "builtins eval": pickled(Call("builtins", "eval", code)),
        "builtins exec": pickled(Call("builtins", "exec", code)),
        "builtins getattr": pickled(Call("builtins", "getattr", imported, "system")),
        "dotted name": b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x01x\x85R.",
        "neighbour of an allowed name": pickled(
            Call("torch_utils.persistence", "_src_to_module", code)
        ),
        "nested code": pickled(storage(pickled(Call("os", "system", command), 2))),
        "name called that is only a type": pickled(Call("torch", "FloatStorage", command)),
        "persistent id": b"\x80\x04" + pickled(Call("os", "system", command))[2:-1] + b"Q.",
        "persistent id of nothing": b"\x80\x04}Q.",
        "INST": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "BUILD on a name": b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n}\x8c\x01xK\x01sb.",
        "EXT": b"\x80\x04\x82\x01.",
        "view beyond its storage": pickled(tensor(four, (1024, 1024), (1024, 1))),
        "view with an offset": pickled(tensor(four, (4,), (1,), offset=1)),
        "view backwards": pickled(tensor(four, (4,), (-1,), offset=3)),
        "view that repeats": pickled(tensor(four, (2**20, 2**20), (0, 0))),
        "empty view": pickled(tensor(four, (0,), (1,))),
        "lying storage": pickled(storage(lying)),
        "short storage": pickled(storage(storage_bytes(8)[:-16])),
        "storage and more": pickled(storage(storage_bytes(8) + b"....")),
        "class that is no network": pickled(
            Call(
                "torch_utils.persistence",
                "_reconstruct_persistent_obj",
                {**module, "class_name": "builtins"},
            )
        ),
        "false length": b"\x80\x04\x8e" + (2**46).to_bytes(8, "little") + b"abc",
        "false length, 4 bytes": b"\x80\x03B\xff\xff\xff\x7fabc.",
        "memo index": b"\x80\x04Nr\x00\x00\x00\x02.",
        "no memo": b"\x80\x04h\x05.",
        "empty stack": b"\x80\x04R.",
        "no mark": b"\x80\x04Nt.",
        "mark left": b"\x80\x04}(.",
        "long frame": b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.",
        "key of a list": b"\x80\x04}](Ns.",
        "deep": pickled({"training_set_kwargs": nested(20000)}),
        "a list": pickled([1, 2]),
        "nothing in it": pickled({"G_ema": None}),
        "no end": pickled({"G_ema": None})[:-1],
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile(Path("x")))
def test_hostile_files_are_refused_and_run_nothing(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "x.pkl"
    path.write_bytes(hostile(marker)[name])
    with pytest.raises(SnapshotError, match=r"x\.pkl was refused: .+\. Give"):
        read_snapshot(path)
    assert not marker.exists()
    assert not hasattr(torch._utils._rebuild_tensor_v2, "x")


@pytest.mark.skipif(os.name != "posix", reason="the control runs a POSIX command")
def test_the_attacks_are_real(tmp_path: Path) -> None:
    for name in ("posix system", "builtins eval"):
        marker = tmp_path / name.replace(" ", "_")
        opened = pickle.loads(hostile(marker)[name])
        if hasattr(opened, "close"):
            opened.close()
        assert marker.exists(), "an attack that does nothing proves nothing"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"GeneratorNetwork": {"img_resolution": 2**20}}, "synthesis.b32"),
        ({"GeneratorNetwork": {"img_resolution": 2**40}}, "img_resolution"),
        ({"GeneratorNetwork": {"img_resolution": True}}, "img_resolution"),
        ({"GeneratorNetwork": {"img_resolution": 24}}, "power of two"),
        (
            {"GeneratorNetwork": {"_init_kwargs": {"img_resolution": 32}}},
            "construction argument is 32",
        ),
        ({"GeneratorNetwork": {"z_dim": 7}}, "mapping.fc0.weight has shape"),
        ({"GeneratorNetwork": {"c_dim": 0}}, "mapping.embed"),
        ({"GeneratorNetwork": {"_modules": {}}}, "it has no mapping"),
        ({"GeneratorNetwork": {"_modules": 3}}, "_modules"),
        ({"SynthesisBlock": {"architecture": "pyramid"}}, "architecture"),
        ({"SynthesisBlock": {"architecture": ["skip"]}}, "architecture"),
        ({"SynthesisBlock": {"architecture": "skip"}}, "torgb.* is missing"),
        ({"SynthesisLayer": {"conv_clamp": 1.0}}, "conv_clamp"),
        ({"SynthesisLayer": {"conv_clamp": float("nan")}}, "conv_clamp"),
        ({"MappingNetwork": {"w_avg_beta": 2**2000}}, "w_avg_beta must be"),
        ({"GeneratorNetwork": {"z_dim": nested(20000)}}, "z_dim of Generator is a list"),
        ({"GeneratorNetwork": {"_init_kwargs": {"z_dim": nested(20000)}}}, "argument is a list"),
        ({"MappingNetwork": {"num_layers": 2**30}}, "mapping.fc2"),
        ({"MappingNetwork": {"num_layers": 0}}, "layers differ|mapping"),
        ({"SynthesisLayer": {"_buffers": {"more": torch.zeros(1)}}}, "more' is unknown"),
        ({"ToRgb": {"_buffers": {"resample_filter": torch.ones(4, 4)}}}, "filter"),
        ({"ToRgb": {"_buffers": {"noise": torch.zeros(1)}}}, "torgb.noise' is unknown"),
        ({"MappingNetwork": {"_buffers": {"w_avg": torch.full((8,), torch.nan)}}}, "NaN"),
        ({"MappingNetwork": {"_buffers": {"w_avg": torch.full((8,), -torch.inf)}}}, "infinity"),
    ],
)
def test_networks_that_contradict_themselves_are_refused(
    tmp_path: Path, changes: dict, message: str
) -> None:
    path = network_file(tmp_path / "x.pkl", CONFIG, **changes)
    with pytest.raises(SnapshotError, match=message):
        read_snapshot(path)


def test_modules_that_share_their_parts_unfold_to_a_bound(tmp_path: Path) -> None:
    def module(**parts: Any) -> Call:
        state = {"_parameters": {}, "_buffers": {}, "_modules": {}} | parts
        meta = {"type": "class", "class_name": "Generator", "state": state}
        return Call("torch_utils.persistence", "_reconstruct_persistent_obj", meta)

    path = tmp_path / "x.pkl"
    lone = torch.zeros(1)
    tensors = {str(index): lone for index in range(900)}
    child = module(_parameters=tensors)
    for top, message in [
        (module(_modules={"a": child, "b": module(_buffers=tensors)}), "more than 1000"),
        (module(_buffers={str(index): lone for index in range(2000)}), "2000 _buffers"),
        (module(_buffers={"x" * 200: lone}), "an unexpected value"),
    ]:
        path.write_bytes(pickled({"G_ema": top}))
        with pytest.raises(SnapshotError, match=message):
            read_snapshot(path)


def test_the_training_network_alone_is_not_taken_for_the_average(tmp_path: Path) -> None:
    network = official(GeneratorNetwork(CONFIG).requires_grad_(False), CONFIG)
    path = tmp_path / "x.pkl"
    path.write_bytes(pickled({"G": network}))
    with pytest.raises(SnapshotError, match="no generator under the name 'G_ema'"):
        read_snapshot(path)


def test_damaged_files_end_in_one_kind_of_error(tmp_path: Path) -> None:
    whole = (GOLDENS / "tiny.pkl").read_bytes()
    random = np.random.default_rng(7)
    path = tmp_path / "x.pkl"
    outcomes = {"read": 0, "refused": 0}
    for turn in range(250):
        damaged = bytearray(whole)
        # weights are most of the bytes, the opcodes before them are what is delicate
        for _ in range(1 + turn % 3):
            at = random.integers(len(whole) if turn % 2 else 6000)
            damaged[at] ^= 1 << int(random.integers(8))
        cut = len(whole) if turn % 5 else int(random.integers(len(whole)))
        path.write_bytes(damaged[:cut])
        try:
            read_snapshot(path)
            outcomes["read"] += 1
        except SnapshotError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20
