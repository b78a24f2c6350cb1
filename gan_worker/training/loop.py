"""Run a training from its start, or from a saved state, to its last snapshot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from fgaug.errors import TrainingError
from gan_worker.files.snapshot import Snapshot, write_safetensors
from gan_worker.generators.stylegan2 import StyleGan2Generator
from gan_worker.training.folder import (
    TrainingFolder,
    append,
    entries,
    load_state,
    save_state,
    snapshot_of,
)
from gan_worker.training.images import write_trained_on
from gan_worker.training.state import restore, state_of
from gan_worker.training.trainer import Trainer

STATE_S = 300.0  # maximum time between saved states
SHEET = range(1, 33)  # z_seeds of every snapshot's sheet
# a generator has collapsed if its images vary less than this share of the best
_COLLAPSED, _VARIED = 0.1, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The progress of a training: one line of its log."""

    kimg: float
    s_per_kimg: float
    left_s: float
    p: float  # augmentation strength
    losses: dict[str, float]
    snapshot: str | None = None  # file name, if one was just written
    spread: float | None = None  # of the sheet's images, in grey levels


@dataclass(slots=True, kw_only=True)
class Loop:
    """A trainer with the callbacks and files of one training."""

    trainer: Trainer
    folder: TrainingFolder
    draw: Callable[[np.ndarray, int], None]  # images uint8 [N, H, W, C], kimg: writes a sheet
    tell: Callable[[Tick], None]
    stop: Callable[[], bool] = lambda: False  # polled between iterations
    start: Path | None = None  # network that the training started from
    spreads: list[float] = field(default_factory=list)

    def run(self) -> bool:
        """Train to the end; return False if it was stopped early.

        Raises:
            TrainingError: a loss became NaN, or the generator collapsed.
        """
        trainer, options = self.trainer, self.trainer.options
        self._resume()
        if trainer.iteration == 0 and trainer.together.first:
            self._write(0)  # baseline for the metrics
        end = options.kimg * 1000
        saved = begun = time.monotonic()
        told = trainer.shown
        while trainer.shown < end:
            if self.stop():
                self._save()
                return False
            trainer.step()
            due = self._due()
            if due is None and trainer.shown // 1000 == told // 1000:
                continue
            now = time.monotonic()
            tick = self._tick(trainer.shown - told, now - begun)
            if due is not None:
                tick = self._keep(due, tick)
            if due is not None or now - saved > STATE_S:
                self._save()
                saved = time.monotonic()
            if trainer.together.first:
                append(self.folder, asdict(tick))
                self.tell(tick)
            told, begun = trainer.shown, time.monotonic()
        return True

    def _resume(self) -> None:
        trainer = self.trainer
        if not self.folder.state.is_file():
            return
        state, iteration = load_state(self.folder)
        restore(trainer, state, iteration)
        kept = list(entries(self.folder, trainer.shown / 1000))
        self.spreads = [entry["spread"] for entry in kept if entry["spread"] is not None]
        if trainer.together.first:
            self.folder.log.unlink(missing_ok=True)
            for entry in kept:
                append(self.folder, entry)
        trainer.together.wait()

    def _due(self) -> int | None:
        """Return the kimg of the snapshot due at this iteration, or None."""
        options, shown = self.trainer.options, self.trainer.shown
        if shown >= options.kimg * 1000:
            return options.kimg
        every = options.snapshot_kimg * 1000
        reached = shown // every
        passed = reached > (shown - options.batch) // every
        return reached * options.snapshot_kimg if passed else None

    def _tick(self, shown: int, wall_s: float) -> Tick:
        trainer = self.trainer
        losses = trainer.means()
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(
                f"Training diverged at {trainer.shown / 1000:.1f} kimg: {', '.join(wrong)} is no "
                f"longer finite. {self._last_good()} Lower lr, or raise gamma."
            )
        s_per_kimg = 1000 * wall_s / shown
        left = trainer.options.kimg - trainer.shown / 1000
        return Tick(
            kimg=trainer.shown / 1000,
            s_per_kimg=s_per_kimg,
            left_s=max(0.0, left) * s_per_kimg,
            p=trainer.ada.p,
            losses=losses,
        )

    def _keep(self, kimg: int, tick: Tick) -> Tick:
        """Write a snapshot with its companion files, and add it to the tick."""
        if self.trainer.together.first:
            name, spread = self._write(kimg)
            tick = Tick(**{**asdict(tick), "snapshot": name, "spread": spread})
        self.trainer.together.wait()
        return tick

    def _write(self, kimg: int) -> tuple[str, float]:
        """Write a snapshot, its record and its sheet; return its name and its images' spread.

        Raises:
            TrainingError: the images have lost their variety.
        """
        trainer = self.trainer
        snapshot = snapshot_of(trainer.options, trainer.average.state_dict())
        images = self._sheet_of(snapshot)
        spread = float(images.astype(np.float32).std(axis=0).mean())
        if kimg:
            self._check_variety(kimg, spread)
        path = self.folder.snapshot(kimg)
        # first, so that no snapshot is ever without its record
        write_trained_on(path, trainer.batches.images, self.start)
        write_safetensors(snapshot, path)
        self.draw(images, kimg)
        return path.name, spread

    def _sheet_of(self, snapshot: Snapshot) -> np.ndarray:
        generator = StyleGan2Generator(snapshot, device=str(self.trainer.device))
        labels = self.trainer.options.labels
        if not labels:
            return generator.generate(list(SHEET), 1.0)
        seeds = list(SHEET)[: max(1, len(SHEET) // labels)]
        return np.concatenate([generator.generate(seeds, 1.0, label) for label in range(labels)])

    def _check_variety(self, kimg: int, spread: float) -> None:
        best = max(self.spreads, default=0.0)
        reals = self.trainer.batches.images
        number = min(len(reals), 64)
        varied = float(reals.take(np.arange(number)).astype(np.float32).std(axis=0).mean())
        if best > _VARIED * varied and spread < _COLLAPSED * best:
            raise TrainingError(
                f"Training collapsed by {kimg} kimg: its images vary by {spread:.2f} grey levels, "
                f"down from {best:.2f}. {self._last_good()} Raise gamma, or lower lr."
            )
        self.spreads.append(spread)

    def _last_good(self) -> str:
        kept = self.folder.snapshots()[1:]  # the first is of the untrained network
        return f"The last good snapshot is {kept[-1]}." if kept else "There is no snapshot yet."

    def _save(self) -> None:
        if self.trainer.together.first:
            save_state(self.folder, state_of(self.trainer), self.trainer.iteration)
        self.trainer.together.wait()
