"""Run training iterations: four phases, two optimisers and the moving average.

Karras et al. 2020 (arXiv:1912.04958, appendix B) and, for
the augmentation, 2020 (arXiv:2006.06676).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_worker.networks import GeneratorNetwork
from gan_worker.networks.discriminator import DiscriminatorNetwork
from gan_worker.training.ada import AdaController
from gan_worker.training.augment import AugmentPipe
from gan_worker.training.distributed import Together
from gan_worker.training.images import TrainingBatches
from gan_worker.training.losses import (
    discriminator_losses,
    generator_loss,
    path_lengths,
    r1_penalty,
)
from gan_worker.training.options import TrainingOptions
from gan_worker.training.precision import compute_in
from gan_worker.training.randomness import Chance, Share

G_INTERVAL, D_INTERVAL = 4, 16  # iterations between path-length steps and between R1 steps
PATH_SHRINK = 2  # path lengths use half a batch
PATH_DECAY = 0.01  # of the running mean length
LOSSES = ("g", "d_fake", "d_real", "sign_real", "sign_fake", "r1", "path")


class Trainer:
    """Both networks and the complete state of their training."""

    def __init__(
        self,
        options: TrainingOptions,
        batches: TrainingBatches,
        device: torch.device,
        together: Together | None = None,
    ) -> None:
        self.options, self.batches, self.device = options, batches, device
        self.together = together or Together()
        self.share = Share(
            rank=self.together.rank,
            world=self.together.world,
            group_size=min(options.group_size, options.batch),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            generator = GeneratorNetwork(options.generator())
            discriminator = DiscriminatorNetwork(options.discriminator())
        self.generator = _placed(generator, device).train().requires_grad_(False)
        self.discriminator = _placed(discriminator, device).train().requires_grad_(False)
        self.average = _placed(GeneratorNetwork(options.generator()), device).eval()
        self.average.requires_grad_(False).load_state_dict(self.generator.state_dict())
        assert options.precision != "auto", "settled before a training begins"
        if options.precision == "bfloat16" and device.type != "cuda":
            compute_in(self.generator, self.discriminator, torch.bfloat16)
        self.augment = AugmentPipe(  # p stays on the CPU, where it is read
            options.augment, resolution=options.resolution, img_channels=options.img_channels
        )
        self.ada = AdaController(
            target=options.ada_target, kimg=options.ada_kimg, batch=options.batch, p=options.p
        )
        self.augment.p.fill_(self.ada.p)
        self.g_optimizer = _adam(self.generator, options.lr, G_INTERVAL)
        self.d_optimizer = _adam(self.discriminator, options.lr, D_INTERVAL)
        self.path_mean = torch.zeros((), device=device)
        self.iteration = 0
        self.sums = {name: torch.zeros(2, device=device) for name in LOSSES}  # sum, count

    @property
    def shown(self) -> int:
        """Number of real images shown to the discriminator."""
        return self.iteration * self.options.batch

    def step(self) -> None:
        """Run one iteration: each network's main step, and the regularisers at their intervals."""
        reals, labels = self._reals()
        with _trainable(self.generator):
            self._update(self.g_optimizer, self._generator_main())
        if self.options.path_length_weight and self.iteration % G_INTERVAL == 0:
            with _trainable(self.generator):
                self._update(self.g_optimizer, self._generator_paths())
        with _trainable(self.discriminator):
            self._update(self.d_optimizer, self._discriminator_main(reals, labels))
        if self.options.gamma and self.iteration % D_INTERVAL == 0:
            with _trainable(self.discriminator):
                self._update(self.d_optimizer, self._discriminator_r1(reals, labels))
        self.iteration += 1
        self._move_average()
        self.augment.p.fill_(self.ada.step())

    def _reals(self) -> tuple[Tensor, Tensor | None]:
        """Return this process's real images of the iteration, and their one-hot labels."""
        images, labels = self.batches.batch(self.shown, self.options.batch)
        return self.share.of(images).to(self.device), self._one_hot(self.share.of(labels))

    def _generator_main(self) -> Tensor:
        chance = self._chance("generator")
        images, one_hot, _ = self._fakes(chance, self.options.batch)
        logits = self._critic(images, one_hot, chance)
        loss = generator_loss(logits)
        self._note(g=loss, sign_fake=logits.sign().mean())
        return loss

    def _generator_paths(self) -> Tensor:
        chance = self._chance("paths")
        count = max(self.options.batch // PATH_SHRINK, self.share.group_size * self.share.world)
        images, _, ws = self._fakes(chance, count)
        lengths = path_lengths(images, ws, chance.normal(count, *images.shape[1:]))
        mean = lengths.detach().mean()
        self.together.average([mean])
        self.path_mean.lerp_(mean, PATH_DECAY)
        loss = (lengths - self.path_mean).square().mean() * self.options.path_length_weight
        self._note(path=loss)
        return loss * G_INTERVAL

    def _discriminator_main(self, reals: Tensor, labels: Tensor | None) -> Tensor:
        chance = self._chance("discriminator")
        with torch.no_grad():
            images, one_hot, _ = self._fakes(chance, self.options.batch)
        fake = self._critic(images, one_hot, chance)
        real = self._critic(reals, labels, chance)
        losses = discriminator_losses(fake, real)
        sign = real.detach().sign().mean()
        self._note(d_fake=losses[0], d_real=losses[1], sign_real=sign)
        if self.ada.target is not None:
            self.together.average([sign])
            self.ada.see(sign, self.options.batch)
        return losses[0] + losses[1]

    def _discriminator_r1(self, reals: Tensor, labels: Tensor | None) -> Tensor:
        chance = self._chance("r1")
        penalty = r1_penalty(
            lambda images: self._critic(images, labels, chance), reals, self.options.gamma
        ).mean()
        self._note(r1=penalty)
        return penalty * D_INTERVAL

    def _fakes(self, chance: Chance, count: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return this process's fakes of a batch of `count`, their labels and their w vectors."""
        config, mapping = self.generator.config, self.generator.mapping
        one_hot = self._one_hot(self.share.of(self.batches.labels(chance.cpu, count)))
        w = mapping.untruncated(chance.normal(count, config.z_dim), one_hot)
        with torch.no_grad():  # the running mean of w, for truncation
            mean = w.detach().mean(dim=0)
            self.together.average([mean])
            mapping.w_avg.lerp_(mean, 1 - config.w_avg_beta)
        ws = w[:, None, :].repeat(1, config.num_ws, 1)
        if chance.happens(self.options.style_mixing):
            cutoff = 1 + chance.below(config.num_ws - 1)
            other = mapping.untruncated(chance.normal(count, config.z_dim), one_hot)
            later = other[:, None, :].expand(-1, config.num_ws - cutoff, -1)
            ws = torch.cat([ws[:, :cutoff], later], dim=1)
        with self._precision():
            images = self.generator.synthesis(ws, chance.noise(config, count))
        return images.float(), one_hot, ws

    def _critic(self, images: Tensor, one_hot: Tensor | None, chance: Chance) -> Tensor:
        """Return logits of augmented images."""
        augmented = self._augmented(images, chance)
        with self._precision():
            logits: Tensor = self.discriminator(augmented, one_hot)
        return logits.float()

    def _augmented(self, images: Tensor, chance: Chance) -> Tensor:
        """Return augmented images; transforms are drawn for all processes."""
        if self.options.augment == "none":
            return images
        count = len(images) * self.share.world
        drawn = self.augment.draw(count, chance.cpu)[self.share.of(torch.arange(count))]
        return self.augment.transformed(images, drawn)

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """Take one step to reduce a loss; gradients that are not finite count as zero."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.together.average(gradients)
        for gradient in gradients:
            torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)
        optimizer.step()

    @torch.no_grad()
    def _move_average(self) -> None:
        """Update the moving average of the generator."""
        images = self.options.ema_kimg * 1000
        if self.options.ema_rampup is not None:
            images = min(images, self.shown * self.options.ema_rampup)
        kept = 0.5 ** (self.options.batch / max(images, 1e-8))
        averages, latest = list(self.average.parameters()), list(self.generator.parameters())
        torch._foreach_lerp_(averages, latest, 1 - kept)
        for average, buffer in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            average.copy_(buffer)

    def _note(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] += torch.stack([value.detach().float(), torch.ones_like(value)])

    def means(self) -> dict[str, float]:
        """Return the means over all processes of the values recorded since the last call."""
        found = {name: sums for name, sums in self.sums.items() if sums[1]}
        self.together.average(list(found.values()))
        told = {name: float(sums[0] / sums[1]) for name, sums in found.items()}
        for sums in self.sums.values():
            sums.zero_()
        return told

    def _chance(self, phase: str) -> Chance:
        return Chance(self.options.seed, self.iteration, phase, self.device, self.share)

    def _one_hot(self, labels: Tensor) -> Tensor | None:
        if not self.options.labels:
            return None
        return F.one_hot(labels, self.options.labels).float().to(self.device)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of forward passes; on a CPU the layers themselves convert."""
        in_bfloat16 = self.options.precision in ("mixed", "bfloat16")
        on_gpu = self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=in_bfloat16 and on_gpu)


def _placed(network: Any, device: torch.device) -> Any:
    return network.to(device=device, memory_format=torch.channels_last)


def _adam(network: nn.Module, lr: float, interval: int) -> torch.optim.Optimizer:
    """Return Adam with betas (0, 0.99), adjusted for an extra step per `interval`."""
    share = interval / (interval + 1)
    parameters = list(network.parameters())
    return torch.optim.Adam(
        parameters, lr=lr * share, betas=(0.0, 0.99**share), eps=1e-8, fused=True
    )


@contextlib.contextmanager
def _trainable(network: nn.Module) -> Iterator[None]:
    """Enable gradients of one network's weights inside the block."""
    network.requires_grad_(True)
    try:
        yield
    finally:
        network.requires_grad_(False)
