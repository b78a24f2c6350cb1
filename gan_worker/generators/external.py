"""Generate images with an unmodified checkout of an official program.

For networks that our own generator does not support, or whose images must come from that program.
Each batch of seeds runs in a separate process, whose output is shown if it fails. The program
controls its noise: a grid's `noise` (const for the PyTorch program, seeded for the TensorFlow
ones) is recorded with the images, but not enforced.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgaug.bank import source_digest
from fgaug.core import files
from fgaug.data.problems import listed
from fgaug.data.reading.samples import BrokenImageError
from fgaug.data.reading.source_image import read_image
from fgaug.data.reading.squares import to_channels
from fgaug.errors import SnapshotError
from gan_worker.generators.latents import check_label, checked_psi, checked_seeds

PROGRAMS = ("generate.py", "run_generator.py")  # of a checkout; the first existing one is used
_SHOWN_LINES, _SHOWN_BYTES = 20, 1 << 16  # of the end of a failed program's log
_LAST_DIGITS = re.compile(r"[0-9]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A user's checkout of an official program, and the Python that runs it."""

    python: str
    repo: str
    program: str | None = None  # one of PROGRAMS; None takes the one in `repo`
    prefix: str | None = None  # of the file names, if generate.py supports `--prefix`

    def form(self) -> str | None:
        """The program to run, or None if the checkout has neither."""
        here = (name for name in PROGRAMS if (Path(self.repo) / name).is_file())
        return self.program or next(here, None)

    def problems(self, class_index: int | None) -> list[str]:
        """Return the reasons why it cannot run, one line each, without starting it."""
        found = []
        if self.python.startswith("-") or shutil.which(self.python) is None:
            found.append(f"`python` must be an executable file, got {self.python}")
        form = self.form()
        if self.repo.startswith("-") or not Path(self.repo).is_dir():
            found.append(f"`repo` must be a folder, got {self.repo}")
        elif form is None:
            found.append(f"`repo`, {self.repo}, has neither {' nor '.join(PROGRAMS)}")
        elif form not in PROGRAMS:
            found.append(f"`program` must be {' or '.join(PROGRAMS)}, got {form}")
        elif not (Path(self.repo) / form).is_file():
            found.append(f"`repo`, {self.repo}, has no {form}")
        if form == PROGRAMS[1] and class_index is not None:
            found.append(f"{form} takes no class, got {class_index}. Use generate.py")
        if form == PROGRAMS[1] and self.prefix is not None:
            found.append(f"{form} takes no `prefix`, got {self.prefix}. Omit it")
        if self.prefix is not None and not _is_name(self.prefix):
            found.append(f"`prefix` must be the start of a file name, got {self.prefix!r}")
        return found


def external_digest(network: Path, class_index: int | None, form: str) -> str:
    """Return the SHA-256 that identifies an external program's images of a network file."""
    parameters = {"network": files.sha256_of(network), "class": class_index, "program": form}
    return source_digest("external", parameters)


class ExternalGenerator:
    """Generates images with an official program; see `Generator`.

    `size` and `channels` are 0 until the first batch. `labels` is the requested class plus 1, as
    only the program knows the network's number of classes.
    """

    def __init__(
        self,
        label: str,
        network: str,
        checkout: Checkout,
        *,
        class_index: int | None = None,
        batch: int = 512,
    ) -> None:
        problems = checkout.problems(class_index)
        if network.startswith("-") or not Path(network).is_file():
            problems.append(f"the network must be a file, got {network}")
        if problems:
            raise SnapshotError(
                f"the external program of `{label}` cannot run: {'; '.join(problems)}."
            )
        self.size = self.channels = 0
        self.labels = 0 if class_index is None else class_index + 1
        self.batch = batch  # z_seeds per process: each start loads the network again
        self.name = f"the external program of `{label}`"
        self.checkout = checkout
        self.form = checkout.form() or ""
        self.network = Path(network).absolute()
        self.sha256 = external_digest(self.network, class_index, self.form)

    def generate(
        self, z_seeds: Sequence[int], psi: float, label: int | None = None
    ) -> NDArray[np.uint8]:
        """Return one image per z_seed, in the given order, uint8 [N, H, W, C].

        Raises:
            SnapshotError: the program failed, or did not write the requested images.
        """
        seeds, psi = checked_seeds(z_seeds), checked_psi(psi)
        check_label(label, self.labels)
        distinct = list(dict.fromkeys(seeds))
        made: dict[int, np.ndarray] = {}
        for start in range(0, len(distinct), self.batch):
            made |= self._run(distinct[start : start + self.batch], psi, label)
        images = np.empty((len(seeds), self.size, self.size, self.channels), np.uint8)
        for row, seed in enumerate(seeds):
            images[row] = to_channels(made[seed], self.channels)
        return images

    def _run(self, seeds: list[int], psi: float, label: int | None) -> dict[int, np.ndarray]:
        with tempfile.TemporaryDirectory(prefix="fgaug-external-") as name:
            log, out = Path(name) / "log.txt", Path(name) / "images"
            out.mkdir()
            try:
                with log.open("wb") as said:
                    ended = subprocess.run(
                        self._command(out, seeds, psi, label),
                        cwd=self.checkout.repo,
                        stdin=subprocess.DEVNULL,
                        stdout=said,
                        stderr=subprocess.STDOUT,
                        check=False,
                    ).returncode
            except OSError as error:
                raise SnapshotError(f"{self.name} cannot be started: {error}.") from None
            if ended:
                how = f"ended with status {ended}" if ended > 0 else f"died of signal {-ended}"
                raise SnapshotError(f"{self.name} {how}; its last lines:\n{_tail(log)}")
            return self._read(self._files(out, seeds, log))

    def _command(self, out: Path, seeds: list[int], psi: float, label: int | None) -> list[str]:
        python = shutil.which(self.checkout.python) or self.checkout.python
        # not resolved: the Python of a virtual environment is a link, identified by its path
        start = [os.path.abspath(python), self.form]
        shared = [f"--network={self.network}", f"--seeds={','.join(map(str, seeds))}"]
        if self.form == PROGRAMS[1]:
            return [
                *(*start, "generate-images", *shared),
                *(f"--truncation-psi={psi!r}", f"--result-dir={out}"),
            ]
        command = [*start, *shared, f"--trunc={psi!r}", f"--outdir={out}"]
        command += [f"--class={label}"] if label is not None else []
        prefix = self.checkout.prefix
        return command + ([f"--prefix={prefix}"] if prefix is not None else [])

    def _files(self, out: Path, seeds: list[int], log: Path) -> dict[int, Path]:
        """Return the image file of each seed, or report missing and unexpected ones."""
        pattern = "*/*.png" if self.form == PROGRAMS[1] else "*.png"
        found: dict[int, Path] = {}
        extra = []
        for path in sorted(out.glob(pattern)):
            digits = _LAST_DIGITS.search(path.stem.removeprefix(self.checkout.prefix or ""))
            seed = int(digits[0]) if digits else -1
            if seed in seeds and seed not in found:
                found[seed] = path
            else:
                extra.append(path.name)
        lacking = [seed for seed in seeds if seed not in found]
        if lacking or extra:
            raise SnapshotError(
                f"{self.name} wrote {len(found) + len(extra)} images for {len(seeds)} seeds"
                + (f"; none for {listed(lacking)}" if lacking else "")
                + (f"; unexpected: {listed(extra)}" if extra else "")
                + f". Its last lines:\n{_tail(log)}"
            )
        return found

    def _read(self, files: dict[int, Path]) -> dict[int, np.ndarray]:
        images = {}
        for seed, path in files.items():
            try:
                image = images[seed] = read_image(path)
            except BrokenImageError as error:
                raise SnapshotError(
                    f"{self.name} wrote an image of seed {seed}, {path.name}, that cannot be "
                    f"read: {error}."
                ) from None
            height, width, channels = image.shape
            self.size = self.size or height
            if (height, width) != (self.size, self.size):
                raise SnapshotError(
                    f"{self.name} must write square images of one size: the image of seed {seed} "
                    f"has {width} x {height} px, others have {self.size} px."
                )
            self.channels = max(self.channels, channels)  # becomes 3 at the first colour image
        return images


def _is_name(prefix: str) -> bool:
    return bool(prefix) and not set(prefix) & set("/\\\0")


def _tail(log: Path) -> str:
    """Return the last lines of a log, without control characters."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _SHOWN_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    shown = [line for line in lines if line.strip()][-_SHOWN_LINES:] or ["(nothing was printed)"]
    plain = ("".join(c if c.isprintable() else " " for c in line) for line in shown)
    return "\n".join(f"  {line[:300]}" for line in plain)
