"""Save and restore the state of a training as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gan_worker.training.trainer import Trainer


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """Return all tensors needed to resume a training, by name."""
    state = {"path_mean": trainer.path_mean}
    for name, number in trainer.ada.state().items():
        state[f"ada.{name}"] = torch.tensor(number, dtype=torch.float64)
    for name, network in _networks(trainer).items():
        state |= {f"{name}.{key}": tensor for key, tensor in network.state_dict().items()}
    for name, optimizer in _optimizers(trainer).items():
        for index, moments in optimizer.state_dict()["state"].items():
            state |= {f"{name}.{index}.{key}": value for key, value in moments.items()}
    return state


def restore(trainer: Trainer, state: Mapping[str, Tensor], iteration: int) -> None:
    """Restore a result of `state_of` after `iteration` iterations."""
    for name, network in _networks(trainer).items():
        network.load_state_dict(_below(state, name))
    for name, optimizer in _optimizers(trainer).items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(state, name).items():
            index, _, leaf = key.partition(".")
            if leaf != "step":  # in its parameter's memory order, which Adam requires
                value = torch.empty_like(parameters[int(index)]).copy_(value)
            moments.setdefault(int(index), {})[leaf] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    trainer.path_mean.copy_(state["path_mean"])
    trainer.ada.restore({name: float(number) for name, number in _below(state, "ada").items()})
    trainer.augment.p.fill_(trainer.ada.p)
    trainer.iteration = iteration


def _networks(trainer: Trainer) -> dict[str, nn.Module]:
    return {
        "generator": trainer.generator,
        "discriminator": trainer.discriminator,
        "average": trainer.average,
    }


def _optimizers(trainer: Trainer) -> dict[str, torch.optim.Optimizer]:
    return {"g_optimizer": trainer.g_optimizer, "d_optimizer": trainer.d_optimizer}


def _below(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the entries with a name as prefix, without the prefix."""
    start = f"{name}."
    return {key.removeprefix(start): v for key, v in state.items() if key.startswith(start)}
