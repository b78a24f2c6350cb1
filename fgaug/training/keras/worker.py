"""The process that TensorFlow runs in: answers one question after the other, ends with its parent.

Started as `python -m`; never imported by the others.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from fgaug.errors import FgaugError, GridError, TrialError
from fgaug.training import memory
from fgaug.training.keras.shared_images import Rows, opened

if TYPE_CHECKING:
    from fgaug.training.keras.fitting import Fitting
    from fgaug.training.keras.process import Settings

_SPARE = 2  # TensorFlow frees little of what it has compiled: a few are used again and again
_LOOK_S = 1.0  # between looks at whether the parent lives
_OOM = (
    "Out of memory with {} images at a time. Lower `recipe.batch_size`, give the trial more of a "
    "GPU (`resources.gpu`), or take smaller images or a smaller model."
)


def main(pipe: Connection, parent: int) -> None:
    """Answer until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    answers = Answers()
    while True:
        try:
            command, arguments, unwanted = pipe.recv()
        except (EOFError, OSError):
            return
        for network in unwanted:
            answers.forget(network)
        reply = _reply(getattr(answers, command), arguments)
        try:
            pipe.send(reply)
        except OSError:
            return


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, however that was."""
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(_LOOK_S)
    os._exit(1)


def _reply(answer: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple[str, Any]:
    try:
        return "answer", answer(**arguments)
    except GridError as error:
        return "GridError", error.problems
    except FgaugError as error:
        return type(error).__name__, str(error)
    except Exception as error:
        if type(error).__name__ == "ResourceExhaustedError":
            return TrialError.__name__, _OOM.format(_at_once(arguments))
        return "RuntimeError", "".join(traceback.format_exception(error)[-6:])


def _at_once(arguments: Mapping[str, Any]) -> int:
    rows, batch = arguments.get("rows"), arguments.get("batch")
    return int(batch or (rows.row.shape[-1] if rows is not None else 1))


class Answers:
    """What this process can be asked; networks are named by the numbers that `open` gave them."""

    def __init__(self) -> None:
        self.networks: dict[int, Fitting] = {}
        self.spare: list[Fitting] = []  # compiled and out of use, the latest last
        self.opened = 0

    def configure(self, settings: Settings) -> None:
        """Load TensorFlow and take what is ours of the machine."""
        from fgaug.training.keras import devices

        devices.configure(settings)

    def open(self, **how: Any) -> int:
        """Return the number of a new network; see `network.build`."""
        from fgaug.training.keras import devices
        from fgaug.training.keras.fitting import Fitting, form

        gc.collect()  # compiled steps and what they compile name each other
        memory.reset_peak_rss()
        shape = {name: how[name] for name in ("recipe", "labels", "size", "channels")}
        wanted = form(**shape)
        for spare in self.spare:
            if spare.form == wanted:
                spare.renew(how["weights"], how["seed"])
                self.spare.remove(spare)
                return self._numbered(spare)
        if devices.gpu_peak() is not None:
            self.spare.clear()  # what memory is left of a share of a GPU is the trial's
            gc.collect()
        return self._numbered(Fitting(**how))

    def forget(self, network: int) -> None:
        """Put a network out of use; a trial with the same recipe will want its compiled steps."""
        if network in self.networks:
            self.spare = [*self.spare, self.networks.pop(network)][-_SPARE:]

    def _numbered(self, fitting: Fitting) -> int:
        self.opened += 1
        self.networks[self.opened] = fitting
        return self.opened

    def sizes(self, network: int) -> dict[str, int]:
        """Return how many layers and parameters a network has, and how many of them learn."""
        return self.networks[network].sizes()

    def begin(self, network: int, rate: float, seed: int) -> None:
        self.networks[network].begin(rate, seed)

    def fit(
        self, network: int, rows: Rows, first_step: int, seed: int, rate: float
    ) -> tuple[float, float]:
        """Return the mean loss of a step for each row of `rows`, and the seconds they took."""
        return self.networks[network].fit(opened(rows), rows.row.shape, first_step, seed, rate)

    def predict(self, network: int, rows: Rows, batch: int) -> np.ndarray:
        return self.networks[network].predict(opened(rows), batch)

    def keep(self, network: int) -> None:
        self.networks[network].keep()

    def put_back(self, network: int) -> None:
        self.networks[network].put_back()

    def tensors(self, network: int) -> dict[str, np.ndarray]:
        return self.networks[network].tensors()

    def take(self, network: int, tensors: Mapping[str, np.ndarray]) -> None:
        self.networks[network].take(tensors)

    def state(self, network: int, kept: bool) -> dict[str, Any]:
        return self.networks[network].state(kept)

    def restore(self, network: int, state: Mapping[str, Any]) -> None:
        self.networks[network].restore(state)

    def peaks(self) -> tuple[int, int | None]:
        """Return the most memory held since a network was opened: of the machine, of the GPU."""
        from fgaug.training.keras import devices

        return memory.peak_rss(), devices.gpu_peak()

    def applications(self) -> list[str]:
        """Return the names of keras.applications."""
        import keras

        names = dir(keras.applications)
        return sorted(name for name in names if callable(getattr(keras.applications, name)))

    def device_name(self) -> str:
        from fgaug.training.keras import devices

        return devices.name()


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
