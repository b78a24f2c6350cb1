"""Read network files into tensors and resolved options, without running code from them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from fgaug.core import files
from fgaug.core.first_bytes import FileKind, identify_stream
from fgaug.errors import SnapshotError
from gan_worker.files import pytorch_pickle, safetensors, tensorflow_pickle
from gan_worker.files.contents import Contents, tensors_of
from gan_worker.files.records import read_network_pickle
from gan_worker.networks import GeneratorConfig

# The largest official snapshot (1024 px, three networks) has 0.4 GB.
MAX_BYTES = 4 * 2**30
_CURE = (
    "Give a network pickle of stylegan2-ada-pytorch, stylegan3 (StyleGAN2 networks), "
    "stylegan2-ada or stylegan2, or a .safetensors file of `fgaug gan convert`."
)
# What to do with a known kind of file that is not a network, if more specific than in general.
_ORIGINAL = (
    "If it has a network of an official program, load it there and save the averaged generator: "
    "with open('net.pkl', 'wb') as f: pickle.dump({'G_ema': G_ema}, f). The checkpoints of other "
    "programs (lists of tensors under 'g_ema' of stylegan2-pytorch, for example) have other "
    "networks: export them to an official pickle with that program's own converter, or use "
    "`kind: external` with that program"
)
_CURES = {
    "torch": _ORIGINAL,
    "torch-legacy": _ORIGINAL,
    "torchscript": "Give the network file that it was exported from",
    "pickle": "Rename it to *.pkl",
    "safetensors": "Rename it to *.safetensors",
    "hdf5": "Keras networks are not supported",
    "keras": "Keras networks are not supported",
    "text": "Open it with a text editor, and give the network file",
    "npy": "If it contains images, import them with `fgaug bank import`",
    "npz": "If it contains images, import them with `fgaug bank import`",
}
_BUFFERS = ("noise_const", "w_avg")  # tensors that are not trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A trained generator read from a file: its moving average."""

    sha256: str  # of the original file; a converted copy keeps it
    kind: str  # the program's format: stylegan2-ada-pytorch, stylegan2-ada, stylegan2
    config: GeneratorConfig
    tensors: dict[str, Tensor]  # float32, contiguous, by official PyTorch name; no filters
    network: str = "G_ema"  # name of the network in the file
    source: str = ""  # name of the original file
    stored_as: str = field(default="float32", compare=False)  # dtypes in the file

    @property
    def averaged(self) -> bool:
        """Return whether the file marks this network as the moving average."""
        return self.network in (*pytorch_pickle.AVERAGES, "Gs")

    @property
    def resolution(self) -> int:
        """Side of the images in px."""
        return self.config.resolution

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.config.img_channels

    @property
    def labels(self) -> int:
        """Number of classes of a conditional network, else 0."""
        return self.config.labels

    @property
    def parameters(self) -> int:
        """Number of trained parameters, without stored noise and w_avg."""
        learned = [t for name, t in self.tensors.items() if not name.endswith(_BUFFERS)]
        return sum(tensor.numel() for tensor in learned)


def read_snapshot(path: Path | str) -> Snapshot:
    """Read the generator in a network file; raise SnapshotError for anything else."""
    path = Path(path)
    return parse_snapshot(bytes_of(path), str(path))


def parse_snapshot(data: bytes, place: str) -> Snapshot:
    """Read the generator in the bytes of a network file; `place` names it in messages."""
    name = PurePath(place).name
    try:
        contents = _contents(name, data)
        tensors = tensors_of(contents, len(data))
    except (SnapshotError, ValueError) as error:
        raise refused(place, error) from None
    return Snapshot(
        sha256=contents.sha256 or hashlib.sha256(data).hexdigest(),
        kind=contents.kind,
        config=contents.config,
        tensors=tensors,
        network=contents.network,
        source=contents.source or name,
        stored_as=" and ".join(sorted({a.dtype.name for a in contents.arrays.values()})),
    )


def write_safetensors(snapshot: Snapshot, path: Path | str, *, half: bool = False) -> None:
    """Write a snapshot as `.safetensors`; `read_snapshot` returns an equal one.

    Args:
        snapshot: the snapshot to write.
        path: file name with the suffix .safetensors.
        half: write float16: half the size, but another network.

    Raises:
        SnapshotError: the name has another suffix, or the file cannot be written.
    """
    path = Path(path)
    check_name(path)
    data = to_safetensors(snapshot, half=half)
    try:
        with files.atomic_write(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise SnapshotError(
            f"{path} cannot be written ({error.strerror}). Choose a writable folder."
        ) from None


def check_name(path: Path) -> None:
    """Refuse a file name that `read_snapshot` would read as another kind of file."""
    if path.suffix != safetensors.SUFFIX:
        raise SnapshotError(f"The copy must be named *.safetensors, got {path}.")


def to_safetensors(snapshot: Snapshot, *, half: bool = False) -> bytes:
    """Encode a snapshot as the bytes of a `.safetensors` file."""
    return safetensors.encoded(
        snapshot.tensors,
        snapshot.config,
        kind=snapshot.kind,
        network=snapshot.network,
        source=snapshot.source,
        sha256=snapshot.sha256,
        half=half,
    )


def identity_of(path: Path | str) -> str:
    """Return the SHA-256 that identifies a network: that of its original file.

    The description of a copy is trusted only if it matches its tensors.

    Raises:
        SnapshotError: a `.safetensors` file is invalid.
    """
    path = Path(path)
    if path.suffix != safetensors.SUFFIX:
        return files.sha256_of(path)
    return read_snapshot(path).sha256


def _contents(name: str, data: bytes) -> Contents:
    if name.endswith(safetensors.SUFFIX):
        kind = identify_stream(io.BytesIO(data))
        if kind is not None and kind.name != "safetensors":
            raise SnapshotError(f"it has no safetensors header: {_named(kind)}")
        return safetensors.contents_of(data)
    value = value_of(data)
    if tensorflow_pickle.holds(value):
        return tensorflow_pickle.contents_of(value)
    return pytorch_pickle.contents_of(value)


def value_of(data: bytes) -> Any:
    """Return the value of a network pickle.

    Raises:
        SnapshotError: the file is damaged or of another kind, which the message names.
    """
    kind = identify_stream(io.BytesIO(data))
    if kind is not None and kind.name != "pickle":
        raise SnapshotError(_named(kind))
    return read_network_pickle(data)


def _named(kind: FileKind) -> str:
    return f"it is {kind.what}. {kind.way_out(_CURES)}"


def refused(place: Path | str, error: Exception) -> SnapshotError:
    """Return the error for a file without a usable network."""
    return SnapshotError(f"{place} was refused: {error}. {_CURE}")


def bytes_of(path: Path) -> bytes:
    """Read a network file, or refuse one that is larger than any network."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SnapshotError(
                f"A network file can have at most {MAX_BYTES} bytes, {path} has {size}. {_CURE}"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise SnapshotError(f"{path} is missing. Give the path of a network file.") from None
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read ({error.strerror}). {_CURE}") from None
