"""`generator.precision: auto`: float32 or bfloat16, whichever makes a bank's fakes faster here.

A bank keeps the precision of its first fill, and a run the one that its cells were named by. Only
for new banks of new runs is the network's speed measured, on every node.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping

from fgaug.bank import Source, Store, read_spec
from fgaug.core.devices import visible_gpus
from fgaug.core.paths import BankNames
from fgaug.core.precision import PRECISIONS, bfloat16_unit
from fgaug.errors import FgaugError
from fgaug.grid.generators import Generator
from fgaug.study.precision import Choice, Choices, Speed, chosen

IMAGES = {"cpu": 4, "cuda": 64}  # of a batch that is measured
ROUNDS = 2  # after one that warms up
PSI = 0.7


def settled(
    generator: Generator, sources: Mapping[str, Source], store: Store, *, choices: Choices
) -> Generator:
    """Return a grid's generator with `auto` replaced by the precision it stands for.

    Args:
        generator: of the grid.
        sources: of each label, by content; those of unreadable networks are missing.
        store: its bank.
        choices: of the run.
    """
    if generator.precision != "auto" or generator.snapshots.keys() - sources.keys():
        return generator
    name = _name(sources)
    if (held := of_bank(store)) not in (None, *PRECISIONS):
        return generator.model_copy(update={"precision": held})  # float16
    found = choices.choice(name, lambda: _choice(name, generator, store, choices))
    in_float32 = found.precision == "float32"
    return generator.model_copy(update={"precision": None if in_float32 else found.precision})


def of_bank(store: Store) -> str | None:
    """Return the precision of a bank; None if there is none yet."""
    return read_spec(store).precision if store.has(BankNames.spec) else None


def faster(file: str, noise: str) -> Choice:
    """Return the choice for a network file that this machine alone samples."""
    return chosen(file, "", [speed_of(file, noise, visible_gpus() > 0)], does="generates")


def _choice(name: str, generator: Generator, store: Store, choices: Choices) -> Choice:
    held = next((each for each in PRECISIONS if each == of_bank(store)), None)
    if held is not None:
        return Choice(recipe=name, precision=held, reason="its bank holds such images")
    file = next(iter(generator.snapshots.values())).file
    speeds = choices.speeds(functools.partial(speed_of, file, generator.noise))
    return chosen(name, "", speeds, does="generates")


def _name(sources: Mapping[str, Source]) -> str:
    networks = (f"{label} {source.sha256[:12]}" for label, source in sources.items())
    return f"the generator of {', '.join(networks)}"


def speed_of(file: str, noise: str, on_gpu: bool) -> Speed:
    """Return how much faster than in float32 this machine samples a network in bfloat16.

    Args:
        file: the network, a path or URI.
        noise: `seeded`, `const` or `none`.
        on_gpu: a GPU makes the images.
    """
    from gan_worker.files.snapshot import read_snapshot
    from gan_worker.filling.label_generators import network_file
    from gan_worker.generators.stylegan2 import StyleGan2Generator

    kind, device = ("cuda", "the GPU") if on_gpu else ("cpu", "the processor")
    unit = bfloat16_unit(kind)
    if unit is None:
        return Speed(device=device, unit=None)
    try:
        snapshot = read_snapshot(network_file(file))
        made = {
            name: StyleGan2Generator(snapshot, noise_mode=noise, device=kind, precision=name)
            for name in PRECISIONS
        }
        best = dict.fromkeys(PRECISIONS, float("inf"))
        # processor time: other processes must not decide
        clock = time.perf_counter if on_gpu else time.process_time
        for number in range(ROUNDS + 1):
            for name, generator in made.items():  # in turn: another process may slow a while
                label = 0 if generator.labels else None
                began = clock()
                generator.generate(range(IMAGES[kind]), PSI, label)
                if number:
                    best[name] = min(best[name], clock() - began)
    except FgaugError:  # the checks of the plan report it
        return Speed(device=device, unit=unit)
    return Speed(device=device, unit=unit, times=best["float32"] / best["bfloat16"])
