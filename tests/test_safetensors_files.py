"""Networks as .safetensors: the same snapshot back, the same identity; damage is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fgaug.bank import BankSpec
from fgaug.core.paths import record_of
from fgaug.errors import SnapshotError
from gan_worker.files.snapshot import Snapshot, identity_of, read_snapshot, write_safetensors
from gan_worker.filling.label_generators import LabelGenerator, LabelSource, describe
from gan_worker.generators.stylegan2 import load_generator

GOLDENS = Path(__file__).parent / "data" / "stylegan2"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a converted copy of tiny.pkl."""
    path = tmp_path / "copy.safetensors"
    write_safetensors(read_snapshot(GOLDENS / "tiny.pkl"), path)
    return path


def same(left: Snapshot, right: Snapshot) -> bool:
    facts = [dataclasses.replace(snapshot, tensors={}) for snapshot in (left, right)]
    return (
        facts[0] == facts[1]
        and left.tensors.keys() == right.tensors.keys()
        and all(torch.equal(tensor, right.tensors[name]) for name, tensor in left.tensors.items())
    )


# ---- files that must load


@pytest.mark.parametrize("name", ["tiny.pkl", "c.pkl", "tf/e_resnet.pkl"])
def test_a_copy_is_the_same_snapshot(tmp_path: Path, name: str) -> None:
    file, copy, second = GOLDENS / name, tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    snapshot = read_snapshot(file)
    write_safetensors(snapshot, copy)
    again = read_snapshot(copy)
    assert same(snapshot, again)
    assert again.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert again.source == file.name
    assert all(t.dtype == torch.float32 and t.is_contiguous() for t in again.tensors.values())
    write_safetensors(again, second)
    assert second.read_bytes() == copy.read_bytes()
    label = 1 if snapshot.labels else None
    images = [load_generator(path, "seeded").generate([3], 0.7, label) for path in (file, copy)]
    assert np.array_equal(*images)


def test_the_official_library_reads_our_files(tiny: Path) -> None:
    tensors = read_snapshot(tiny).tensors
    theirs = load_file(tiny)
    assert theirs.keys() == tensors.keys()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in tensors.items())
    with safe_open(tiny, "pt") as file:
        described = json.loads(file.metadata()["fgaug"])
    assert described["version"] == 1
    assert described["kind"] == "stylegan2-ada-pytorch"
    assert described["network"] == "G_ema"
    assert described["source"] == "tiny.pkl"
    assert described["sha256"] == identity_of(GOLDENS / "tiny.pkl")
    assert described["config"]["resolution"] == 8


def test_a_copy_has_the_identity_of_its_original(tiny: Path) -> None:
    original = GOLDENS / "tiny.pkl"
    assert identity_of(tiny) == identity_of(original)
    sources = [
        describe("dbp", LabelSource(kind="stylegan2", file=str(file))) for file in (tiny, original)
    ]
    assert sources[0].sha256 == sources[1].sha256
    assert sources[0].sha256 == hashlib.sha256(original.read_bytes()).hexdigest()
    bank = BankSpec(size=8, channels=1, noise="seeded", sources={"dbp": sources[1]})
    source = LabelSource(kind="stylegan2", file=str(tiny))
    made = LabelGenerator("dbp", source, bank, "cpu").generate(np.array([4]), 0.7)
    assert np.array_equal(made, load_generator(original, "seeded").generate([4], 0.7))


def test_a_network_that_was_never_a_file_is_known_by_its_copy(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    trained = dataclasses.replace(read_snapshot(GOLDENS / "tiny.pkl"), sha256="", source="")
    write_safetensors(trained, path)
    again = read_snapshot(path)
    assert again.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == identity_of(path)
    assert again.source == "x.safetensors"


def test_half_precision_is_raised_and_known_by_its_own_bytes(tmp_path: Path, tiny: Path) -> None:
    with safe_open(tiny, "pt") as file:
        metadata = file.metadata()
    halved = {name: tensor.half() for name, tensor in load_file(tiny).items()}
    path = tmp_path / "half.safetensors"
    save_file(halved, path, metadata=metadata)
    snapshot = read_snapshot(path)
    assert all(torch.equal(t, halved[name].float()) for name, t in snapshot.tensors.items())
    assert snapshot.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == identity_of(path)
    write_safetensors(snapshot, tmp_path / "full.safetensors")
    assert same(snapshot, read_snapshot(tmp_path / "full.safetensors"))


# ---- files that must not


def parts_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: Any, numbers: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def in_description(**changes: Any) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(header: dict[str, Any], numbers: bytes) -> bytes:
        described = json.loads(header["__metadata__"]["fgaug"]) | changes
        kept = {name: value for name, value in described.items() if value is not ...}
        header["__metadata__"]["fgaug"] = json.dumps(kept)
        return join(header, numbers)

    return change


def in_config(**changes: Any) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(header: dict[str, Any], numbers: bytes) -> bytes:
        config = json.loads(header["__metadata__"]["fgaug"])["config"] | changes
        kept = {name: value for name, value in config.items() if value is not ...}
        return in_description(config=kept)(header, numbers)

    return change


def in_tensor(**changes: Any) -> Callable[[dict[str, Any], bytes], bytes]:
    def change(header: dict[str, Any], numbers: bytes) -> bytes:
        return join(header | {"mapping.w_avg": header["mapping.w_avg"] | changes}, numbers)

    return change


def renamed(header: dict[str, Any], numbers: bytes) -> bytes:
    header["mapping.w"] = header.pop("mapping.w_avg")
    return join(header, numbers)


def twice(header: dict[str, Any], numbers: bytes) -> bytes:
    text = json.dumps(header)
    return join((text[:-1] + ', "mapping.w_avg": {}}').encode(), numbers)


def nan(header: dict[str, Any], numbers: bytes) -> bytes:
    return join(header, numbers[:-4] + np.float32(np.nan).tobytes())


BAD: dict[str, tuple[Callable[[dict[str, Any], bytes], bytes], str]] = {
    "empty": (lambda h, n: b"", "no safetensors header"),
    "short": (lambda h, n: b"\x05\x00", "no safetensors header"),
    "a pickle": (lambda h, n: (GOLDENS / "tiny.pkl").read_bytes(), "no safetensors header"),
    "long header": (lambda h, n: (2**63).to_bytes(8, "little") + b"{}", "no safetensors header"),
    "no JSON": (lambda h, n: join(b"{{{{", n), "header is not JSON"),
    "no UTF-8": (lambda h, n: join(b"\xff\xfe\x00", n), "header is not JSON"),
    "a list": (lambda h, n: join([h], n), "header is not a JSON object"),
    "deep": (lambda h, n: join(b"[" * 100000, n), "header is not JSON"),
    "twice": (twice, "has a repeated key"),
    "huge number": (lambda h, n: join(b'{"a": ' + b"9" * 9000 + b"}", n), "header is not JSON"),
    "NaN": (lambda h, n: join(b'{"a": NaN}', n), "holds NaN"),
    "no metadata": (
        lambda h, n: join({k: v for k, v in h.items() if k != "__metadata__"}, n),
        "does not describe its generator",
    ),
    "other metadata": (
        lambda h, n: join(h | {"__metadata__": {"format": "pt"}}, n),
        "does not describe its generator",
    ),
    "metadata no JSON": (
        lambda h, n: join(h | {"__metadata__": {"fgaug": "x"}}, n),
        "description is not JSON",
    ),
    "version": (in_description(version=2), "of version 2, not 1"),
    "no kind": (in_description(kind=...), "lacks 'kind'"),
    "more": (in_description(extra=1), "unknown 'extra'"),
    "kind": (in_description(kind=3), "kind of its description is not a text"),
    "SHA-256": (in_description(sha256="abc"), "is not a SHA-256"),
    "SHA-256 of others": (in_description(sha256="0" * 64), "do not match its description"),
    "config": (in_description(config=[]), "config of its description is not"),
    "config less": (in_config(z_dim=...), "lacks 'z_dim'"),
    "config more": (in_config(zz=1), "unknown 'zz'"),
    "config text": (in_config(z_dim="8"), "z_dim of its config is '8'"),
    "config bool": (in_config(z_dim=True), "z_dim of its config is True"),
    "config infinite": (in_config(w_avg_beta=1e300), "w_avg_beta of its config"),
    "config widths": (in_config(widths=[8, "8"]), "widths of its config"),
    "config size": (in_config(resolution=2**20), "power of two"),
    "config other": (in_config(resolution=16, widths=[8, 8, 4]), "do not match its description"),
    "config architecture": (in_config(architecture="pyramid"), "architecture"),
    "config z": (in_config(z_dim=9), "do not match its description"),
    "config beta": (in_config(w_avg_beta=0.9), "do not match its description"),
    "dtype": (in_tensor(dtype="F64"), "not described as float32 or float16"),
    "dtype half": (in_tensor(dtype="F16"), "bytes for its shape"),
    "dtype list": (in_tensor(dtype=["F32"]), "not described as float32 or float16"),
    "tensor more": (in_tensor(stride=[1]), "not described"),
    "shape": (in_tensor(shape=[9]), "bytes for its shape"),
    "shape negative": (in_tensor(shape=[-2, -4]), "impossible shape"),
    "shape empty": (in_tensor(shape=[0]), "impossible shape"),
    "shape real": (in_tensor(shape=[8.0]), "impossible shape"),
    "shape turned": (in_tensor(shape=[2, 4]), "do not match its description|has shape"),
    "offsets beyond": (in_tensor(data_offsets=[2**40, 2**40 + 32]), "reaches beyond"),
    "offsets before": (in_tensor(data_offsets=[-32, 0]), "reaches beyond"),
    "offsets shared": (in_tensor(data_offsets=[0, 32]), "overlap or leave gaps"),
    "offsets real": (in_tensor(data_offsets=[0.0, 32.0]), "not described"),
    "renamed": (renamed, "do not match its description|unknown|missing"),
    "cut": (lambda h, n: join(h, n[:-4]), "reaches beyond"),
    "longer": (lambda h, n: join(h, n + b"abcd"), "more data than its tensors"),
    "another weight": (
        lambda h, n: join(h, n[:-4] + b"\x00\x00\x80?"),
        "do not match its description",
    ),
    "nan": (nan, "do not match its description"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_and_foreign_files_are_refused(tiny: Path, name: str) -> None:
    change, message = BAD[name]
    tiny.write_bytes(change(*parts_of(tiny)))
    with pytest.raises(SnapshotError, match=rf"safetensors was refused: .*({message})"):
        read_snapshot(tiny)
    with pytest.raises(SnapshotError):
        identity_of(tiny)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    snapshot = read_snapshot(GOLDENS / "tiny.pkl")
    snapshot.tensors["mapping.w_avg"][3] = torch.inf
    path = tmp_path / "x.safetensors"
    write_safetensors(snapshot, path)
    with pytest.raises(SnapshotError, match="w_avg contains NaN or infinity"):
        read_snapshot(path)


def test_mutations_end_in_one_kind_of_error(tiny: Path) -> None:
    whole = tiny.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    random = np.random.default_rng(3)
    refused = 0
    for turn in range(200):
        damaged = bytearray(whole)
        at = int(random.integers(len(whole) if turn % 3 else head))
        damaged[at] ^= 1 << int(random.integers(8))
        tiny.write_bytes(damaged if turn % 5 else damaged[: int(random.integers(len(whole)))])
        try:
            read_snapshot(tiny)
        except SnapshotError:
            refused += 1
    assert refused >= 195  # what is left says the same: a blank before or after a brace


# ---- the commands


def test_inspect_and_convert(tmp_path: Path, fgaug: Any) -> None:
    file, copy = GOLDENS / "tf" / "a.pkl", tmp_path / "new" / "a.safetensors"
    code, out, _ = fgaug("gan", "inspect", file)
    assert code == 0
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    for word in ("stylegan2-ada", "Gs", "32 px", sha256, "w_avg norm", "seeded", "psi 0.5"):
        assert word in out
    assert "82939" in out
    code, converted, _ = fgaug("gan", "convert", file, copy)
    assert code == 0
    code, again, _ = fgaug("gan", "inspect", copy)
    assert (code, again) == (0, converted)
    assert again.splitlines()[1:] == out.splitlines()[1:]


def test_mistakes_end_in_one_message(tmp_path: Path, fgaug: Any, tiny: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(b"cos\nsystem\n.")
    for arguments, words in [
        (("inspect", tmp_path / "none.pkl"), "is missing"),
        (("inspect", tmp_path), "cannot be read"),
        (("inspect", tmp_path / "bad.pkl"), "was refused"),
        (("convert", GOLDENS / "tiny.pkl", tmp_path / "x.pt"), "must be named *.safetensors"),
        (("convert", GOLDENS / "tiny.pkl", tiny), "exists"),
        (("convert", GOLDENS / "tiny.pkl", tiny / "x.safetensors"), "cannot be written"),
        (("convert", tmp_path / "bad.pkl", tmp_path / "y.safetensors"), "was refused"),
    ]:
        code, _, err = fgaug("gan", *arguments)
        assert code == 2, err
        assert words in err
        assert "Traceback" not in err
    assert not (tmp_path / "y.safetensors").exists()


def test_a_half_is_half_as_large_and_a_network_of_its_own(tmp_path: Path, fgaug: Any) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    write_safetensors(read_snapshot(GOLDENS / "tiny.pkl"), whole)
    record = pd.DataFrame({"sha256": ["0" * 64], "group": [3]})
    record.to_parquet(tmp_path / "whole.trained_on.parquet")
    code, _, _ = fgaug("gan", "convert", whole, half, "--half")
    assert code == 0
    assert half.stat().st_size < 0.75 * whole.stat().st_size  # the header is as long
    ours, theirs = read_snapshot(half), read_snapshot(whole)
    assert ours.sha256 not in ("", theirs.sha256)
    for name, tensor in theirs.tensors.items():
        assert torch.equal(ours.tensors[name], tensor.half().float()), name
    assert pd.read_parquet(tmp_path / "half.trained_on.parquet").equals(record)


def test_a_copy_of_a_wrong_name_leaves_no_record(tmp_path: Path, fgaug: Any) -> None:
    file = tmp_path / "x.safetensors"
    write_safetensors(read_snapshot(GOLDENS / "tiny.pkl"), file)
    pd.DataFrame({"sha256": ["0" * 64], "group": [3]}).to_parquet(record_of(file))
    code, _, err = fgaug("gan", "convert", file, tmp_path / "y.pt")
    assert (code, "must be named *.safetensors" in err) == (2, True)
    assert sorted(tmp_path.iterdir()) == [file, record_of(file)]


def test_numbers_too_large_for_a_half_are_refused(tmp_path: Path) -> None:
    snapshot = read_snapshot(GOLDENS / "tiny.pkl")
    tensors = {**snapshot.tensors, "mapping.w_avg": snapshot.tensors["mapping.w_avg"] + 1e6}
    with pytest.raises(
        SnapshotError, match=r"mapping\.w_avg has values outside the range of float16"
    ):
        write_safetensors(
            dataclasses.replace(snapshot, tensors=tensors), tmp_path / "x.safetensors", half=True
        )
