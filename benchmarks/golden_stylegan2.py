"""Compare generated images with stored ones made by the official program.

FOLDER/pt/*.npz and FOLDER/tf/*.npz + the network files beside them -> one row a file, exit 1 on
any miss. A network that lies in both folders must give TensorFlow's images from both files.

    python benchmarks/golden_stylegan2.py FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import lzma
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fgaug.errors import UserError
from gan_worker.files.snapshot import Snapshot, read_snapshot
from gan_worker.generators.stylegan2 import StyleGan2Generator
from gan_worker.networks import GeneratorConfig

# The correct form lies within 1e-5, each of 18 tried mistakes at 2e-3 or more.
FLOAT_TOLERANCE = 2e-5
TENSORFLOW_TOLERANCE = 5e-5  # its arithmetic alone is 1e-5 away from PyTorch's
LEVELS_SHARE = 2e-4  # of a file's uint8 values may be one level off
NOISE = ("const", "none")  # by their number in the index arrays
LATER = re.compile(r"d_.*|aug_.*|r1_.*|pl_.*")
INDEXES = {"f32_index", "u8_index", "seeds"}
TENSORFLOW_KEYS = {
    "index",
    "tfnoise_f32",
    "tfnoise_u8",
    "const_index",
    "const_f32",
    "seed0_z_first4",
    "seed0_noise_first4",
    "noise_names",
}


@dataclass
class Row:
    """What was compared for one network file."""

    name: str
    floats: int = 0  # float images
    levels: int = 0  # uint8 images
    worst_float: float = 0.0
    worst_level: int = 0
    off_values: int = 0
    values: int = 0
    later: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""
    tolerance: float = FLOAT_TOLERANCE

    def add_float(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Count a float array in."""
        difference = np.abs(ours.astype(np.float64) - theirs).max()
        if not difference <= self.worst_float:  # so that a NaN stays
            self.worst_float = float(difference)

    def add_levels(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Count uint8 images in."""
        difference = np.abs(ours.astype(np.int16) - theirs)
        self.worst_level = max(self.worst_level, int(difference.max()))
        self.off_values += int((difference > 0).sum())
        self.values += difference.size

    @property
    def off_share(self) -> float:
        """Return the share of uint8 values that differ."""
        return self.off_values / max(1, self.values)

    @property
    def ok(self) -> bool:
        """Return whether images were compared and all lie within the tolerances."""
        return (
            not self.error
            and not self.unknown
            and self.floats + self.levels > 0
            and self.worst_float <= self.tolerance
            and self.worst_level <= 1
            and self.off_share <= LEVELS_SHARE
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds pt and tf: *.npz and the network files")
    parser.add_argument("--device", default="cpu", help="where torch computes")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'file':<20}{'float':>6}{'uint8':>6}{'max |diff|':>12}{'worst level':>12}"
        f"{'levels off':>12}{'s':>7}  result"
    )
    for row in all_rows(arguments.folder, arguments.device):
        rows.append(row)
        print(
            f"{row.name:<20}{row.floats:>6}{row.levels:>6}{row.worst_float:>12.2g}"
            f"{row.worst_level:>12}{row.off_share:>12.4%}{row.seconds:>7.1f}"
            f"  {'ok' if row.ok else 'MISS'}{' ' + row.error if row.error else ''}"
        )
        if row.unknown:
            print(f"{'':<20}unknown keys: {', '.join(row.unknown)}")
    later = sorted({key for row in rows for key in row.later})
    if later:
        print(f"left to golden_training.py: {', '.join(later)}")
    if not rows:
        print(f"No golden files under {arguments.folder}/pt or tf.", file=sys.stderr)
    return 0 if rows and all(row.ok for row in rows) else 1


def all_rows(folder: Path, device: str) -> Iterator[Row]:
    """Yield the comparison of every network file in `folder`/pt and `folder`/tf."""
    for name, source, golden in found(folder / "pt"):
        yield compared(f"pt/{name}", source, golden, device)
    for name, source, golden in found(folder / "tf"):
        yield compared_tensorflow(f"tf/{name}", source, golden, device)
        twin = folder / "pt" / source.name
        if twin.is_file():
            yield compared_tensorflow(f"pt/{name} as tf", twin, golden, device)


def found(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield (name, network file or recipe, golden file) of each pair in `folder`.

    A file without goldens of its own, such as a_from_tf, holds the network of another one: a.
    """
    goldens = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    for suffix in (".pkl", ".pkl.xz", "_recipe.json"):
        for source in sorted(folder.glob(f"*{suffix}")):
            name = source.name.removesuffix(suffix)
            kin = [stem for stem in goldens if name == stem or name.startswith(f"{stem}_")]
            if kin:
                yield name, source, goldens[max(kin, key=len)]


def compared(name: str, source: Path, golden: Path, device: str) -> Row:
    """Return the comparison of one network file with every array known of its golden file."""
    row = Row(name)
    started = time.perf_counter()
    with np.load(golden) as arrays:
        try:
            snapshot = opened(source, arrays["w_avg"])
            compare_images(row, snapshot, arrays, device)
            compare_parts(row, snapshot, arrays, device)
        except UserError as error:
            row.error = str(error)
    row.seconds = time.perf_counter() - started
    return row


def compared_tensorflow(name: str, source: Path, golden: Path, device: str) -> Row:
    """Return the comparison of a network file with what TensorFlow made, seeded and const noise,
    and with what the official converter and PyTorch made of the TensorFlow file.
    """
    row = Row(name, tolerance=TENSORFLOW_TOLERANCE)
    started = time.perf_counter()
    try:
        snapshot = opened(source, np.empty(0))
        for path in (golden, golden.with_name(f"{golden.stem}_ptlegacy.npz")):
            with np.load(path) as arrays:
                compare_tensorflow(row, snapshot, arrays, device)
    except (UserError, FileNotFoundError) as error:
        row.error = str(error)
    row.seconds = time.perf_counter() - started
    return row


def compare_tensorflow(
    row: Row, snapshot: Snapshot, arrays: np.lib.npyio.NpzFile, device: str
) -> None:
    """Compare images by seeded and stored noise, and the draws of seed 0."""
    seeded, stored = (
        StyleGan2Generator(snapshot, noise_mode=mode, device=device)
        for mode in ("seeded", "const")
    )
    for key, generator in (("tfnoise_f32", seeded), ("tfnoise_u8", seeded), ("const_f32", stored)):
        if key not in arrays:
            continue
        index = arrays[
            "const_index" if "const_index" in arrays and key == "const_f32" else "index"
        ]
        for psi, label in sorted({(line[1], line[3]) for line in index.tolist()}):
            rows = (index[:, 1] == psi) & (index[:, 3] == label)
            seeds = [int(seed) for seed in index[rows, 0]]
            chosen = None if label < 0 else int(label)
            if key == "tfnoise_u8":
                row.add_levels(generator.generate(seeds, psi, chosen), arrays[key][rows])
                row.levels += len(seeds)
            else:
                row.add_float(generator.synthesize(seeds, psi, chosen), arrays[key][rows])
                row.floats += len(seeds)
    if "seed0_z_first4" in arrays:
        z, maps = seeded._draws([0])
        row.add_float(z[0, :4].numpy(), arrays["seed0_z_first4"])
        first = np.stack([noise.flatten()[:4].cpu().numpy() for noise in maps])
        row.add_float(first, arrays["seed0_noise_first4"])
    row.unknown += sorted(set(arrays.files) - TENSORFLOW_KEYS)


def opened(source: Path, w_avg: np.ndarray) -> Snapshot:
    """Return the snapshot in a .pkl, a .pkl.xz or a recipe of its weights."""
    if source.suffix == ".json":
        return from_recipe(json.loads(source.read_text()), w_avg)
    with unpacked(source) as plain:
        return read_snapshot(plain)


@contextlib.contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """Yield a network file, unpacked where it is *.xz."""
    if source.suffix != ".xz":
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / source.stem
        with lzma.open(source) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
        yield plain


def from_recipe(recipe: list[dict], w_avg: np.ndarray) -> Snapshot:
    """Return the unconditional `skip` network whose weights are drawn as a recipe says."""
    tensors = {"mapping.w_avg": torch.from_numpy(w_avg)}
    for entry in recipe:
        random = np.random.RandomState(zlib.crc32(entry["crc32_text"].encode()))
        draws = random.randn(*entry["shape"])
        if entry["mean"] is None:  # noise strengths
            values = np.sign(draws) * (0.05 + 0.1 * np.abs(draws))
        else:
            values = entry["mean"] + entry["std"] * draws
        array = np.asarray(values, dtype=np.float32)
        if hashlib.sha256(array.tobytes()).hexdigest()[:16] != entry["sha256_16"]:
            raise UserError(f"{entry['name']} drawn here differs from the recipe's hash.")
        tensors[entry["name"]] = torch.from_numpy(array)
    blocks = [name for name in tensors if name.endswith(".conv1.weight")]
    config = GeneratorConfig(
        resolution=2 ** (len(blocks) + 1),
        img_channels=len(tensors["synthesis.b4.torgb.bias"]),
        labels=0,
        z_dim=tensors["mapping.fc0.weight"].shape[1],
        w_dim=len(w_avg),
        widths=tuple(len(tensors[name]) for name in blocks),
        mapping_layers=sum(bool(re.fullmatch(r"mapping\.fc\d+\.bias", n)) for n in tensors),
        mapping_width=len(tensors["mapping.fc0.bias"]),
    )
    return Snapshot(sha256="", kind="recipe", config=config, tensors=tensors)


def compare_images(
    row: Row, snapshot: Snapshot, arrays: np.lib.npyio.NpzFile, device: str
) -> None:
    """Compare float and uint8 images, all seeds of one (psi, noise, class) at a time."""
    generators = [StyleGan2Generator(snapshot, noise_mode=m, device=device) for m in NOISE]
    for key in ("f32", "u8"):
        index, theirs = arrays[f"{key}_index"], arrays[key]
        for psi, noise, label in sorted({tuple(line) for line in index[:, 1:].tolist()}):
            rows = (index[:, 1:] == (psi, noise, label)).all(axis=1)
            seeds = [int(seed) for seed in index[rows, 0]]
            chosen = None if label < 0 else int(label)
            if key == "f32":
                images = generators[int(noise)].synthesize(seeds, psi, chosen)
                row.add_float(images, theirs[rows])
                row.floats += len(seeds)
            else:
                row.add_levels(generators[int(noise)].generate(seeds, psi, chosen), theirs[rows])
                row.levels += len(seeds)


def compare_parts(row: Row, snapshot: Snapshot, arrays: np.lib.npyio.NpzFile, device: str) -> None:
    """Compare latents, w vectors, a mix of two images and what each block gives."""
    network = StyleGan2Generator(snapshot, device=device).network
    seeds, z_dim = [int(seed) for seed in arrays["seeds"]], snapshot.config.z_dim
    z = np.stack([np.random.RandomState(seed).randn(z_dim) for seed in seeds])
    one_hot = torch.eye(snapshot.labels, device=device)[:1] if snapshot.labels else None

    def ws(seed: int, psi: float, cutoff: int | None = None) -> torch.Tensor:
        rows = torch.from_numpy(z[[seeds.index(seed)]]).float().to(device)
        return network.mapping(rows, one_hot, psi=psi, cutoff=cutoff)

    for key in arrays.files:
        theirs = arrays[key]
        with torch.no_grad():
            if key == "z":
                row.add_float(z, theirs)
            elif key == "w_avg":
                row.add_float(network.mapping.w_avg.cpu().numpy(), theirs)
            elif key == "w_psi1_class0":
                row.add_float(np.stack([ws(s, 1)[0, 0].cpu().numpy() for s in seeds]), theirs)
            elif matched := re.fullmatch(r"ws_seed(\d+)_psi([-\d.]+)_cutoff(\d+)", key):
                seed, psi, cutoff = matched.groups()
                row.add_float(ws(int(seed), float(psi), int(cutoff))[0].cpu().numpy(), theirs)
            elif matched := re.fullmatch(r"mix_(\d+)_(\d+)_from(\d+)", key):
                low, high, start = map(int, matched.groups())
                mixed = torch.cat([ws(low, 0.7)[:, :start], ws(high, 0.7)[:, start:]], dim=1)
                row.add_float(network.synthesis(mixed, "const")[0].cpu().numpy(), theirs)
            elif matched := re.fullmatch(r"inter_(x|img)_b(\d+)", key):
                with kept_outputs(network) as outputs:
                    network.synthesis(ws(0, 0.7), "const")
                row.add_float(outputs[matched[2]][matched[1] == "img"], theirs)
            elif LATER.fullmatch(key):
                row.later.append(key)
            elif key not in {*INDEXES, "f32", "u8"}:
                row.unknown.append(key)


@contextlib.contextmanager
def kept_outputs(network: torch.nn.Module) -> Iterator[dict[str, list]]:
    """Collect the (features, image) of each block by its resolution while one image is made."""
    outputs: dict[str, list] = {}
    hooks = []
    for block in network.synthesis.blocks():

        def keep(module: torch.nn.Module, _: object, result: tuple) -> None:
            arrays = [part if part is None else part[0].cpu().numpy().copy() for part in result]
            outputs[str(module.conv1.resolution)] = arrays

        hooks.append(block.register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


if __name__ == "__main__":
    sys.exit(main())
