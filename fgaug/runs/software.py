"""Versions of the software that affects a search's pixels and numbers, and the code's commit."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from fgaug.grid.cells import Cell

# albumentations accepts any of the four distributions of OpenCV
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "ray",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "scikit-learn",
    "pillow",
    "albumentations",
    "albucore",
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
    "torch-fidelity",
    "tensorflow",
    "keras",
)
_OF_KERAS = ("tensorflow", "keras")  # not loaded without `backend: keras`


def versions_of(cells: Iterable[Cell]) -> dict[str, str]:
    """Return the versions of the packages that affect a search's pixels and numbers."""
    with_keras = any(cell.recipe.backend == "keras" for cell in cells)
    names = [name for name in PACKAGES if with_keras or name not in _OF_KERAS]
    versions = {name: version_of(name) for name in names}
    return {name: version for name, version in versions.items() if version is not None}


def version_of(package: str) -> str | None:
    """Return the version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def computing() -> dict[str, str]:
    """Return the numerical libraries beneath NumPy, SciPy and torch.

    The number of threads is in each trial's row (`device`).
    """
    import numpy
    import scipy
    import torch

    libraries = {}
    for package in (numpy, scipy):
        built = package.show_config(mode="dicts")["Build Dependencies"]["blas"]
        name = f"{package.__name__} blas"
        libraries[name] = f"{built.get('name')} {built.get('version')}"
    built_with = torch.__config__.show()
    mkl = re.search(r"Math Kernel Library Version ([\w.]+)", built_with)
    one_dnn = re.search(r"(?:MKL-DNN|oneDNN) v([\w.]+)", built_with)
    parts = [("MKL", mkl), ("oneDNN", one_dnn)]
    libraries["torch blas"] = (
        ", ".join(f"{name} {part[1]}" for name, part in parts if part) or "other"
    )
    libraries["torch cpu"] = torch.backends.cpu.get_cpu_capability()
    if torch.version.cuda is not None and torch.cuda.is_available():
        libraries["torch cuda"] = f"{torch.version.cuda}, {_cudnn()}"
    return libraries


def _cudnn() -> str:
    import torch

    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's
    return "no cuDNN" if version is None else f"cuDNN {version}"


def git_commit() -> str | None:
    """Return the git commit of the code; None outside a clone."""
    here = Path(__file__).parent
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        shown = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        return shown.stdout.strip()
    return None
