"""The TensorFlow process: executes one command after the other and ends with its parent.

Started with `python -m`; never imported by the other modules.
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
    from fgaug.training.keras.rebuilt import RebuiltNetwork

_SPARE = 2  # TensorFlow frees little of its compiled code, so a few networks are reused
_LOOK_S = 1.0  # between checks that the parent is alive
_OOM = (
    "Out of memory with {} images at a time. On a GPU, TensorFlow may use the trial's share "
    "of its memory (`resources.gpu`) less a gigabyte for CUDA. Lower `recipe.batch_size`, raise "
    "`resources.gpu`, so that fewer trials share a GPU, or use smaller images or a smaller model."
)


def main(pipe: Connection, parent: int) -> None:
    """Execute commands until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
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
    """End this process when its parent has ended for any reason."""
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
    """The commands of this process; networks are identified by the numbers that `open` returns."""

    def __init__(self) -> None:
        self.networks: dict[int, Fitting] = {}
        self.rebuilt: dict[int, RebuiltNetwork] = {}  # from files, for prediction only
        self.spare: list[Fitting] = []  # compiled but unused, most recent last
        self.opened = 0

    def configure(self, settings: Settings) -> None:
        """Load TensorFlow and restrict it to the trial's resources."""
        from fgaug.training.keras import devices

        devices.configure(settings)

    def open(self, **how: Any) -> int:
        """Build a network and return its number; see `network.build`."""
        from fgaug.training.keras import devices
        from fgaug.training.keras.fitting import Fitting, form

        gc.collect()  # compiled steps and networks refer to each other
        memory.reset_peak_rss()
        shape = {name: how[name] for name in ("recipe", "labels", "size", "channels")}
        wanted = form(**shape)
        for spare in self.spare:
            if spare.form == wanted:
                spare.renew(how["weights"], how["seed"])
                self.spare.remove(spare)
                return self._numbered(spare)
        if devices.gpu_peak() is not None:
            self.spare.clear()  # frees the GPU share for this trial
            gc.collect()
        return self._numbered(Fitting(**how))

    def rebuild(self, **how: Any) -> int:
        """Rebuild a saved network and return its number; see `RebuiltNetwork`."""
        from fgaug.training.keras.rebuilt import RebuiltNetwork

        self.opened += 1
        self.rebuilt[self.opened] = RebuiltNetwork(**how)
        return self.opened

    def forget(self, network: int) -> None:
        """Release a network; a trial with the same recipe can reuse its compiled steps."""
        self.rebuilt.pop(network, None)
        if network in self.networks:
            self.spare = [*self.spare, self.networks.pop(network)][-_SPARE:]

    def _numbered(self, fitting: Fitting) -> int:
        self.opened += 1
        self.networks[self.opened] = fitting
        return self.opened

    def sizes(self, network: int) -> dict[str, int]:
        """Return the numbers of layers and parameters, and of trainable ones."""
        return self.networks[network].sizes()

    def begin(self, network: int, rate: float, seed: int) -> None:
        self.networks[network].begin(rate, seed)

    def fit(
        self, network: int, rows: Rows, first_step: int, seed: int, rate: float
    ) -> tuple[float, float]:
        """Take one step per row of `rows`; return the mean loss and the seconds."""
        return self.networks[network].fit(opened(rows), rows.row.shape, first_step, seed, rate)

    def predict(self, network: int, rows: Rows, batch: int) -> np.ndarray:
        of = self.rebuilt if network in self.rebuilt else self.networks
        return of[network].predict(opened(rows), batch)

    def keep(self, network: int) -> None:
        self.networks[network].keep()

    def put_back(self, network: int) -> None:
        self.networks[network].put_back()

    def weights(self, network: int) -> dict[str, np.ndarray]:
        return self.networks[network].weights()

    def load_weights(self, network: int, weights: Mapping[str, np.ndarray]) -> None:
        self.networks[network].load_weights(weights)

    def state(self, network: int, kept: bool) -> dict[str, Any]:
        return self.networks[network].state(kept)

    def restore(self, network: int, state: Mapping[str, Any]) -> None:
        self.networks[network].restore(state)

    def peaks(self) -> tuple[int, int | None]:
        """Return the peak memory since a network was opened: of the machine and of the GPU."""
        from fgaug.training.keras import devices

        return memory.peak_rss(), devices.gpu_peak()

    def applications(self) -> list[str]:
        """Return the names of the models in keras.applications."""
        import keras

        names = dir(keras.applications)
        return sorted(name for name in names if callable(getattr(keras.applications, name)))

    def device_name(self) -> str:
        from fgaug.training.keras import devices

        return devices.name()


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
