"""The scripts a researcher would write for a grid: Ray Tune with a function, or a loop.

    python benchmarks/plain_tune.py --way tune --images FOLDER --out FOLDER [--epochs 5]

`benchmarks/search.py` compares fgaug with them. FOLDER holds PNG files: `train/<label>/`,
`valid/<label>/` and `fakes/<label>/`. The first epoch trains head and norm layers alone, as
fgaug's does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else it asks the network for its version
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray listens on loopback alone

import albumentations as A
import numpy as np
import ray
import timm
import torch
import torch.nn.functional as F
from albumentations.pytorch import ToTensorV2
from ray import tune
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from torchvision.datasets import ImageFolder

BATCH = 64


def augmentation() -> list[Any]:
    """Return the flip and affine transform of training images."""
    return [A.HorizontalFlip(p=0.5), A.Affine(rotate=(-10, 10), scale=(0.9, 1.1), p=1.0)]


def fit(model: nn.Module, train: Any, valid: Any, epochs: int) -> Iterator[dict[str, float]]:
    """Train by AdamW and one cycle, yielding the validation metrics of each epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    steps = epochs * len(train)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps)
    for epoch in range(epochs):
        freeze(model, epoch == 0)
        model.train()
        for images, labels in train:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield evaluate(model, valid)


def freeze(model: Any, frozen: bool) -> None:
    """Let head and norm layers learn, and the rest unless frozen."""
    model.requires_grad_(not frozen)
    model.get_classifier().requires_grad_(True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(True)


def evaluate(model: nn.Module, valid: Any) -> dict[str, float]:
    model.eval()
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in valid:
            logits = model(images)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
            count += len(labels)
    return {"valid_loss": loss / count, "valid_acc": right / count}


# Ray Tune: a function trainable that reads PNG files through a DataLoader


def train_cell(config: dict[str, Any]) -> None:
    started = time.time()
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    train, valid = folders(config)
    count = len(
        valid.class_to_idx
    )  # `.classes` makes cloudpickle look into torch.classes; it fails
    model = timm.create_model(config["model"], pretrained=False, num_classes=count)
    loaders = (
        DataLoader(train, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=0),
        DataLoader(valid, batch_size=2 * BATCH, num_workers=0),
    )
    for metrics in fit(model, *loaders, config["epochs"]):
        tune.report({**metrics, "started": started, "ended": time.time()})


def folders(config: dict[str, Any]) -> tuple[Dataset[Any], ImageFolder]:
    """Return the training images, the drawn fakes among them, and the validation images."""
    root, to_tensor = Path(config["images"]), [A.ToFloat(max_value=255), ToTensorV2()]
    augmented = A.Compose([*augmentation(), *to_tensor], seed=config["seed"])
    plain = A.Compose(to_tensor)
    real = ImageFolder(root / "train", transform=lambda i: augmented(image=np.array(i))["image"])
    valid = ImageFolder(root / "valid", transform=lambda i: plain(image=np.array(i))["image"])
    if not config["ratio"]:
        return real, valid
    fakes = ImageFolder(root / "fakes", transform=real.transform)
    drawn = draw_fakes(real.targets, fakes.targets, config["ratio"], config["seed"])
    return ConcatDataset([real, Subset(fakes, drawn)]), valid


def draw_fakes(real: list[int], fakes: list[int], ratio: float, seed: int) -> list[int]:
    """Return indices of fakes: for each label `ratio` times its real images."""
    random = np.random.default_rng(seed)
    drawn: list[int] = []
    for label in sorted(set(real)):
        wanted = int(real.count(label) * ratio)
        drawn += random.permutation(np.flatnonzero(np.array(fakes) == label))[:wanted].tolist()
    return drawn


def search(options: argparse.Namespace) -> tuple[float, float]:
    """Run the grid with Ray Tune; return when the first trial started and the last one ended."""
    ray.init(_node_ip_address="127.0.0.1")
    tuner = tune.Tuner(
        tune.with_resources(train_cell, {"cpu": 1}),
        param_space={
            "ratio": tune.grid_search(options.ratios),
            "seed": tune.grid_search(options.seeds),
            "images": str(options.images.resolve()),
            "model": options.model,
            "epochs": options.epochs,
        },
        run_config=tune.RunConfig(storage_path=str(options.out.resolve())),
    )
    results = tuner.fit()
    assert not results.errors, results.errors
    found = results.get_dataframe()
    assert len(found) == len(options.ratios) * len(options.seeds)
    return float(found["started"].min()), float(found["ended"].max())


# The loop: one process, every image decoded once


class Preloaded:
    """Shuffled batches of images that lie in memory."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.pixels, self.labels = pixels, torch.from_numpy(labels)
        self.augment = A.Compose(augmentation(), seed=seed)

    def __len__(self) -> int:
        return len(self.pixels) // BATCH

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.pixels))
        for index in order[: len(self) * BATCH].split(BATCH):
            images = [self.augment(image=self.pixels[i])["image"] for i in index.tolist()]
            yield as_tensor(np.stack(images)), self.labels[index]


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255).contiguous()


def loop(options: argparse.Namespace) -> tuple[float, float]:
    """Train cell after cell; return when the first one started and the last one ended."""
    torch.set_num_threads(1)
    started = time.time()
    real, real_labels = decoded(options.images / "train")
    fakes, fake_labels = decoded(options.images / "fakes")
    held, held_labels = decoded(options.images / "valid")
    batches = as_tensor(held).split(2 * BATCH), torch.from_numpy(held_labels).split(2 * BATCH)
    valid = list(zip(*batches, strict=True))
    for ratio, seed in itertools.product(options.ratios, options.seeds):
        torch.manual_seed(seed)
        drawn = draw_fakes(real_labels.tolist(), fake_labels.tolist(), ratio, seed)
        pixels = np.concatenate([real, fakes[drawn]])
        train = Preloaded(pixels, np.concatenate([real_labels, fake_labels[drawn]]), seed)
        classes = len(set(held_labels.tolist()))
        model = timm.create_model(options.model, pretrained=False, num_classes=classes)
        for _ in fit(model, train, valid, options.epochs):
            pass
    return started, time.time()


def decoded(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (uint8 [N, H, W, 3]) and labels of a folder of PNG files."""
    files = ImageFolder(folder)
    return np.stack([np.array(image) for image, _ in files]), np.array(files.targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=("tune", "loop"), default="tune")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="Tune's results and times.json")
    parser.add_argument("--model", default="mobilenetv3_small_050")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    started, ended = search(options) if options.way == "tune" else loop(options)
    times = {"started": started, "ended": ended}
    (options.out / "times.json").write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    main()
