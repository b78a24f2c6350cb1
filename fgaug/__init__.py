"""fgaug: do GAN-generated images help my classifier?

`import fgaug` loads neither torch, TensorFlow, Ray nor pandas: each public name is imported from
its module when it is first used. Type checkers read the imports below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgaug.core.version import __version__
from fgaug.errors import (
    BankError,
    ClusterError,
    DataError,
    DiskFullError,
    FgaugError,
    GridError,
    RunError,
    SnapshotError,
    StoreError,
    TrainingError,
    TrialError,
    UserError,
)

if TYPE_CHECKING:
    from fgaug import quality, stats
    from fgaug.analysis.compare.compare import compare
    from fgaug.bank.reader import open_bank
    from fgaug.data.dataset import open_dataset
    from fgaug.grid.load import load_space
    from fgaug.grid.space import Space
    from fgaug.runs.results import load_curves, load_predictions, load_results
    from fgaug.study.plan import Plan
    from fgaug.study.planner import plan
    from fgaug.study.replay import Replay, replay
    from fgaug.study.run import Run, open_run
    from fgaug.study.search import search
    from fgaug.training.predict import predict
else:  # hidden from type checkers, to which a module's `__getattr__` would make any name valid
    from fgaug.core.lazy import lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Plan": "fgaug.study.plan",
            "Replay": "fgaug.study.replay",
            "Run": "fgaug.study.run",
            "Space": "fgaug.grid.space",
            "compare": "fgaug.analysis.compare.compare",
            "load_curves": "fgaug.runs.results",
            "load_predictions": "fgaug.runs.results",
            "load_results": "fgaug.runs.results",
            "load_space": "fgaug.grid.load",
            "open_bank": "fgaug.bank.reader",
            "open_dataset": "fgaug.data.dataset",
            "open_run": "fgaug.study.run",
            "plan": "fgaug.study.planner",
            "predict": "fgaug.training.predict",
            "quality": "fgaug.quality",
            "replay": "fgaug.study.replay",
            "search": "fgaug.study.search",
            "stats": "fgaug.stats",
        },
    )
    del lazy_names

__all__ = [
    "BankError",
    "ClusterError",
    "DataError",
    "DiskFullError",
    "FgaugError",
    "GridError",
    "Plan",
    "Replay",
    "Run",
    "RunError",
    "SnapshotError",
    "Space",
    "StoreError",
    "TrainingError",
    "TrialError",
    "UserError",
    "__version__",
    "compare",
    "load_curves",
    "load_predictions",
    "load_results",
    "load_space",
    "open_bank",
    "open_dataset",
    "open_run",
    "plan",
    "predict",
    "quality",
    "replay",
    "search",
    "stats",
]
