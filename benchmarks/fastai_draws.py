"""Each stream of random draws against fastai's, as two running trainings make them.

    DIR/bin/python benchmarks/fastai_draws.py BUS-BRA [--seeds 8]     (see fastai_peer.py for DIR)

Both programs run their whole schedule (1 + 4 epochs, 324 images) around a body that costs nothing,
as no draw depends on a value. Compared are the state at the start (every tensor and setting of the
body), then head, dropout, order and augmentation: values by Kolmogorov-Smirnov, and correlations
between rows, layers, steps and seeds against what chance gives.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastai_peer_runs as runs
import numpy as np
import torch
from fastai.vision import all as fastai
from fastai_peer_sets import LABELS, PeerSet, peer_set
from scipy import stats
from torch import nn

from fgaug.core.seeding import stream_seed
from fgaug.grid.recipe import Budget
from fgaug.training.pytorch.learner import TorchLearner

SIZE, EPOCHS = 64, 4


@dataclass(slots=True)
class Seen:
    """What one training drew."""

    body: nn.Module | None = None
    head: list[np.ndarray] = field(default_factory=list)  # of each linear layer
    norms: list[tuple[Any, ...]] = field(default_factory=list)  # state and settings of the head's
    masks: dict[int, list[np.ndarray]] = field(default_factory=lambda: {0: [], 1: []})
    order: list[np.ndarray] = field(default_factory=list)  # rows of each batch
    pictures: list[np.ndarray] = field(default_factory=list)  # [n, 4] of each batch, see _picture


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bus_bra", type=Path)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--cache", type=Path, default=Path("fastai-peer-images"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = peer_set(arguments.bus_bra, "images_128", SIZE, 324, 400, arguments.cache)
    both: dict[str, list[Seen]] = {"fgaug": [], "fastai": []}
    for seed in range(1, arguments.seeds + 1):
        both["fgaug"].append(_ours(seed, images))
        both["fastai"].append(_fastais(seed, images))
    for lines in (_start, _heads, _dropout, _orders, _pictures):
        for name, ours, theirs, remark in lines(both["fgaug"], both["fastai"]):
            print(f"| {name} | {ours} | {theirs} | {remark} |", flush=True)
    return 0


def _job(seed: int) -> runs.Job:
    streams = dict.fromkeys(("head", "dropout", "order", "augmentation"), "ours")
    return runs.Job(
        images="images_128",
        size=SIZE,
        n_train=324,
        n_valid=400,
        epochs=EPOCHS,
        patience=EPOCHS,
        program="fgaug",
        seed=seed,
        **streams,
    )


def _ours(seed: int, images: PeerSet) -> Seen:
    seen, pixels = Seen(), images.pixels()
    learner = TorchLearner(runs.RECIPE, LABELS, seed, "cpu")
    _watch_model(seen, learner.model.body, learner.model.head)
    augment = learner.augment

    def watched(batch: torch.Tensor) -> torch.Tensor:
        out = augment(batch)
        seen.pictures.append(_picture(out))
        return out

    learner.augment = watched
    training = learner.train(
        runs._images(images, pixels, "train"),
        runs._images(images, pixels, "valid"),
        Budget(unit="epochs", max=EPOCHS, patience=EPOCHS + 1),
        stream_seed(seed, "order"),
    )
    order = training.order

    def watched_order() -> Any:
        for rows in order:
            seen.order.append(rows.copy())
            yield rows

    training.order = watched_order()
    for _ in training:
        pass
    return seen


def _fastais(seed: int, images: PeerSet) -> Seen:
    seen = Seen()
    draws = runs.Draws()
    with tempfile.TemporaryDirectory() as scratch:
        learner = runs._learner(_job(seed), images, Path(scratch))
        _watch_model(seen, learner.model[0].model, learner.model[1])
        runs.watch(learner, draws)

        class Pictures(fastai.Callback):
            order = -5

            def before_batch(self) -> None:
                if self.training:
                    seen.pictures.append(_picture(self.x.as_subclass(torch.Tensor) * 0.5 + 0.5))

        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(EPOCHS, freeze_epochs=1, cbs=[Pictures()])
    seen.order = list(draws.batches())
    return seen


def _watch_model(seen: Seen, body: Any, head: nn.Module) -> None:
    """Keep the start, put a body that costs nothing in the place of `body`, watch the masks."""
    seen.body = copy.deepcopy(body)
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            seen.head.append(layer.weight.detach().numpy().copy())
        if isinstance(layer, nn.BatchNorm1d):
            state = [value.unique().tolist() for value in layer.state_dict().values()]
            seen.norms.append((*state, layer.eps, layer.momentum, layer.num_features))
    body.forward_features = runs.Shapes(body.num_features)
    dropouts = [layer for layer in head.modules() if isinstance(layer, nn.Dropout)]
    for which, layer in enumerate(dropouts):
        layer.register_forward_hook(_mask_hook(seen.masks[which]))


def _mask_hook(masks: list[np.ndarray]) -> Callable[..., None]:
    def hook(module: nn.Module, given: Any, out: torch.Tensor) -> None:
        if module.training:
            masks.append(((out == 0) & (given[0] != 0)).detach().numpy())
        else:
            assert torch.equal(out, given[0])

    return hook


def _picture(batch: torch.Tensor) -> np.ndarray:
    """Return mean, spread and the centre of brightness (x, y) of each image, float64 [n, 4]."""
    x = batch[:, 0].detach().double().numpy()
    mass = x.sum(axis=(1, 2))
    side = np.linspace(-1, 1, x.shape[-1])
    across, down = (x.sum(axis=1) @ side) / mass, (x.sum(axis=2) @ side) / mass
    return np.stack([x.mean(axis=(1, 2)), x.std(axis=(1, 2)), across, down], axis=1)


Lines = list[tuple[str, str, str, str]]


def _start(ours: list[Seen], theirs: list[Seen]) -> Lines:
    a, b = ours[0].body, theirs[0].body
    assert a is not None
    assert b is not None
    one, two = a.state_dict(), b.state_dict()
    unequal = [name for name in two if name not in one or not torch.equal(one[name], two[name])]
    settings, others = _settings(a), _settings(b)
    return [
        ("body: tensors", str(len(one)), str(len(two)), f"{len(unequal)} unequal"),
        ("body: modules", str(len(settings)), str(len(others)), f"equal: {settings == others}"),
        ("head: norms", "", "", f"equal: {ours[0].norms == theirs[0].norms}"),
    ]


def _settings(body: nn.Module) -> list[tuple[str, str, str]]:
    """Return name, type and settings of each module up to the feature map."""
    return [
        (name, type(module).__name__, module.extra_repr())
        for name, module in body.named_modules()
        if not name.startswith("global_pool")  # the head pools
    ]


def _heads(ours: list[Seen], theirs: list[Seen]) -> Lines:
    lines: Lines = []
    for layer in (0, 1):
        a, b = (np.stack([seen.head[layer] for seen in of]) for of in (ours, theirs))
        name = f"head, layer {layer + 1}"
        for what, function in (
            ("mean", np.mean),
            ("sd", np.std),
            ("excess kurtosis", lambda x: stats.kurtosis(x, axis=None)),
            ("largest correlation of rows of a seed", _worst_rows),
            ("largest correlation between seeds", lambda x: _worst_rows(x.reshape(1, len(x), -1))),
            ("mean squared length of the difference of first rows", _row_difference),
        ):
            lines.append((f"{name}: {what}", f"{function(a):.5f}", f"{function(b):.5f}", ""))
        lines.append((f"{name}: values", "", "", _ks(a.ravel()[:400_000], b.ravel()[:400_000])))
    between = np.corrcoef(np.stack([seen.head[0].ravel() for seen in [*ours, *theirs]]))
    cross = np.abs(between[: len(ours), len(ours) :])
    bound = 4 / np.sqrt(ours[0].head[0].size)
    lines.append(("head: ours against fastai's", f"{cross.max():.5f}", "", f"chance: {bound:.5f}"))
    return lines


def _worst_rows(x: np.ndarray) -> float:
    """Return the largest correlation between two rows of [seeds, rows, columns]."""
    return max(
        float(np.abs(np.corrcoef(rows[:64]) - np.eye(min(64, len(rows)))).max()) for rows in x
    )


def _row_difference(x: np.ndarray) -> float:
    return float(np.mean(np.sum((x[:, 1] - x[:, 0]) ** 2, axis=-1)))


def _dropout(ours: list[Seen], theirs: list[Seen]) -> Lines:
    lines: Lines = []
    for layer in (0, 1):
        a, b = ([np.stack(seen.masks[layer]) for seen in of] for of in (ours, theirs))
        name = f"dropout {layer + 1}"
        lines.append((f"{name}: masks a training", str(len(a[0])), str(len(b[0])), ""))
        for what, function in (
            ("rate", lambda x: np.mean([m.mean() for m in x])),
            ("sd over images of the rate", lambda x: np.mean([m.mean(axis=2).std() for m in x])),
            (
                "sd over units of the rate",
                lambda x: np.mean([m.mean(axis=(0, 1)).std() for m in x]),
            ),
            ("correlation of steps that follow", _of_steps),
            ("correlation of images of a batch", _of_images),
            ("correlation of seeds", lambda x: _correlation(x[0], x[1])),
        ):
            lines.append((f"{name}: {what}", f"{function(a):.5f}", f"{function(b):.5f}", ""))
        per_image = [np.concatenate([m.mean(axis=2).ravel() for m in x]) for x in (a, b)]
        lines.append((f"{name}: rates of images", "", "", _ks(*per_image)))
    return lines


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def _of_steps(masks: list[np.ndarray]) -> float:
    return max((_correlation(m[:-1], m[1:]) for m in masks), key=abs)


def _of_images(masks: list[np.ndarray]) -> float:
    return max((_correlation(m[:, :-1], m[:, 1:]) for m in masks), key=abs)


def _orders(ours: list[Seen], theirs: list[Seen]) -> Lines:
    a, b = (np.stack([np.stack(seen.order) for seen in of]) for of in (ours, theirs))
    lines: Lines = [("order: seeds, batches, images", str(a.shape), str(b.shape), "")]
    per_epoch = [x.reshape(len(x), EPOCHS + 1, -1) for x in (a, b)]
    twice = [sum(len(set(e)) < len(e) for seed in x for e in seed) for x in per_epoch]
    lines.append(("order: epochs with an image twice", str(twice[0]), str(twice[1]), ""))
    counts = [np.bincount(x.ravel(), minlength=324) for x in (a, b)]
    lines.append(
        ("order: sd of how often an image is used", *(f"{c.std():.3f}" for c in counts), "")
    )
    follow = [
        max(abs(_correlation(s[e], s[e + 1])) for s in x for e in range(EPOCHS)) for x in per_epoch
    ]
    lines.append(("order: largest correlation of epochs", *(f"{v:.3f}" for v in follow), ""))
    first = [x[:, :, :64].ravel() for x in per_epoch]
    lines.append(("order: rows of first batches", "", "", _ks(*first)))
    return lines


def _pictures(ours: list[Seen], theirs: list[Seen]) -> Lines:
    a, b = (
        np.concatenate([np.concatenate(seen.pictures) for seen in of]) for of in (ours, theirs)
    )
    lines: Lines = []
    for column, name in enumerate(("mean", "spread", "centre across", "centre down")):
        values = [f"{x[:, column].mean():.5f} ({x[:, column].std():.5f})" for x in (a, b)]
        lines.append((f"augmented: {name}", *values, _ks(a[:, column], b[:, column])))
    return lines


def _ks(a: np.ndarray, b: np.ndarray) -> str:
    found = stats.ks_2samp(a, b)
    return f"KS {found.statistic:.4f}, p = {found.pvalue:.2f}, n = {len(a):,} and {len(b):,}"


if __name__ == "__main__":
    sys.exit(main())
