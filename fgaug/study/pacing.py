"""How fast this machine makes fakes: a few of them, timed.  plan -> [pacing] -> dry run"""

from __future__ import annotations

import time

import numpy as np

from fgaug import cluster
from fgaug.stocks import FakeNeeds
from fgaug.study.stocking import label_sources

ENOUGH_S = 1.0  # of images, after a first batch that warms up
BATCH_CPU, BATCH_GPU = 4, 64


def fakes_per_s(needs: FakeNeeds) -> float | None:
    """Return how many fakes a second one device of this machine makes, by one label's network.

    A GPU where there is one, else all cores. None where none of our networks, or one that is not
    here, makes them: simulated fakes take no time, and another program's is not known.
    """
    if needs.source.generator.kind != "stylegan2":
        return None
    from fgaug.errors import SnapshotError
    from gan_worker.sources import LabelGenerator

    on_gpu = cluster.visible_gpus() > 0
    label, source = next(iter(label_sources(needs.source).items()))
    _, psi = next(iter(needs.missing.wanted), (label, 1.0))
    device, batch = ("cuda", BATCH_GPU) if on_gpu else ("cpu", BATCH_CPU)
    try:
        generator = LabelGenerator(label, source, needs.source.spec, device, needs.source.store)
    except SnapshotError:
        return None  # not on this machine: a plan by counts has said so
    generator.generate(np.arange(1, batch + 1), psi)
    made, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < ENOUGH_S:
        generator.generate(np.arange(made + 1, made + batch + 1), psi)
        made += batch
    return made / taken
