"""Network files read into tensors and resolved options, without running anything in them.

file -> records -> snapshot -> generator
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePath

from torch import Tensor

from fgaug import paths
from fgaug.errors import SnapshotError
from gan_worker import modules, safetensors_files, tensorflow_files
from gan_worker.contents import Contents, tensors_of
from gan_worker.networks import GeneratorConfig
from gan_worker.records import read_network_pickle

# The largest official snapshot (1024 px, three networks) has 0.4 GB.
MAX_BYTES = 4 * 2**30
_CURE = (
    "Give a network pickle as stylegan2-ada-pytorch, stylegan3 (a StyleGAN2 network), "
    "stylegan2-ada or stylegan2 wrote it, or a .safetensors file of `fgaug gan convert`."
)
_BUFFERS = ("noise_const", "w_avg")  # tensors that training does not learn


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A trained generator as read from a file: its moving average."""

    sha256: str  # of the file as first read: a converted copy carries it on
    kind: str  # the program's format: stylegan2-ada-pytorch, stylegan2-ada, stylegan2
    config: GeneratorConfig
    tensors: dict[str, Tensor]  # float32, contiguous, by official PyTorch name; no filters
    network: str = "G_ema"  # which of the file's networks this is
    source: str = ""  # name of the file as first read

    @property
    def resolution(self) -> int:
        """Return the side of its images in px."""
        return self.config.resolution

    @property
    def channels(self) -> int:
        """Return 1 for gray images, 3 for colour."""
        return self.config.img_channels

    @property
    def labels(self) -> int:
        """Return how many classes a conditional network has, else 0."""
        return self.config.labels

    @property
    def parameters(self) -> int:
        """Return how many numbers were learned: stored noise and w_avg are not among them."""
        learned = [t for name, t in self.tensors.items() if not name.endswith(_BUFFERS)]
        return sum(tensor.numel() for tensor in learned)


def read_snapshot(path: Path | str) -> Snapshot:
    """Return the generator in a network file; anything else ends in a SnapshotError."""
    path = Path(path)
    return parse_snapshot(bytes_of(path), str(path))


def parse_snapshot(data: bytes, place: str) -> Snapshot:
    """Return the generator in the bytes of a network file; `place` says where they are from."""
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
    )


def write_safetensors(snapshot: Snapshot, path: Path | str, *, half: bool = False) -> None:
    """Write a snapshot as `.safetensors`: `read_snapshot` gives the same one back.

    Args:
        snapshot: what is written.
        path: a name that ends in .safetensors.
        half: write float16, half the size and a network of its own.

    Raises:
        SnapshotError: the name has another suffix, or the file cannot be written.
    """
    path = Path(path)
    check_name(path)
    data = to_safetensors(snapshot, half=half)
    try:
        with paths.whole(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise SnapshotError(
            f"{path} cannot be written ({error.strerror}). Choose a folder that can."
        ) from None


def check_name(path: Path) -> None:
    """Refuse a file name that `read_snapshot` would take for another kind of file."""
    if path.suffix != safetensors_files.SUFFIX:
        raise SnapshotError(f"The copy must be named *.safetensors, got {path}.")


def to_safetensors(snapshot: Snapshot, *, half: bool = False) -> bytes:
    """Return a snapshot as the bytes of a `.safetensors` file."""
    return safetensors_files.encoded(
        snapshot.tensors,
        snapshot.config,
        kind=snapshot.kind,
        network=snapshot.network,
        source=snapshot.source,
        sha256=snapshot.sha256,
        half=half,
    )


def identity_of(path: Path | str) -> str:
    """Return the SHA-256 that names a network: of its file as first read.

    A copy's description is believed only as far as its tensors bear it out.

    Raises:
        SnapshotError: a `.safetensors` file that is refused.
    """
    path = Path(path)
    if path.suffix != safetensors_files.SUFFIX:
        return paths.sha256_of(path)
    return read_snapshot(path).sha256


def _contents(name: str, data: bytes) -> Contents:
    if name.endswith(safetensors_files.SUFFIX):
        return safetensors_files.contents_of(data)
    value = read_network_pickle(data)
    if isinstance(value, tuple):
        return tensorflow_files.contents_of(data, value)
    return modules.contents_of(data, value)


def refused(place: Path | str, error: Exception) -> SnapshotError:
    """Return what to say of a file that holds no network."""
    return SnapshotError(f"{place} was refused: {error}. {_CURE}")


def bytes_of(path: Path) -> bytes:
    """Return a network file's bytes, unless they are more than any network has."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SnapshotError(
                f"A network file may have {MAX_BYTES} bytes, {path} has {size}. {_CURE}"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise SnapshotError(f"{path} is missing. Give the path of a network file.") from None
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read ({error.strerror}). {_CURE}") from None
