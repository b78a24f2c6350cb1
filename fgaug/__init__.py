"""fgaug: do GAN-generated images help my classifier?

Public names are loaded when they are first used: `import fgaug` loads neither torch, TensorFlow,
Ray nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgaug.core.lazy import lazy_names
from fgaug.core.version import __version__
from fgaug.errors import FgaugError, UserError

if TYPE_CHECKING:
    from fgaug import quality as quality
    from fgaug import stats as stats
    from fgaug.analysis.compare.compare import compare as compare
    from fgaug.bank.reader import open_bank as open_bank
    from fgaug.data.dataset import open_dataset as open_dataset
    from fgaug.grid.load import load_space as load_space
    from fgaug.grid.space import Space as Space
    from fgaug.runs.results import load_curves as load_curves
    from fgaug.runs.results import load_predictions as load_predictions
    from fgaug.runs.results import load_results as load_results
    from fgaug.study.plan import Plan as Plan
    from fgaug.study.planner import plan as plan
    from fgaug.study.replay import Replay as Replay
    from fgaug.study.replay import replay as replay
    from fgaug.study.run import Run as Run
    from fgaug.study.search import search as search
    from fgaug.training.predict import predict as predict

_HOMES = {
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
    "plan": "fgaug.study.planner",
    "predict": "fgaug.training.predict",
    "quality": "fgaug.quality",
    "replay": "fgaug.study.replay",
    "search": "fgaug.study.search",
    "stats": "fgaug.stats",
}
__all__ = [
    "FgaugError",
    "Plan",
    "Replay",
    "Run",
    "Space",
    "UserError",
    "__version__",
    "compare",
    "load_curves",
    "load_predictions",
    "load_results",
    "load_space",
    "open_bank",
    "open_dataset",
    "plan",
    "predict",
    "quality",
    "replay",
    "search",
    "stats",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
