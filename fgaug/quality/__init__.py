"""Quality of sets of fakes: measures on features of real and generated images.

Pure functions on float arrays [N, D], one image per row. In every asymmetric function of two sets
the reals come first: swapping them exchanges precision and recall. Networks that compute features
are in `fgaug.quality.features.networks`, which loads torch.
"""

from __future__ import annotations

from fgaug.quality.floors import Floor, at_sizes_of, measures_of, real_floor
from fgaug.quality.frechet import Gaussian, fid
from fgaug.quality.kernel import KidSubsets, kid, kid_subsets
from fgaug.quality.neighbours import density_coverage, precision_recall, realism

__all__ = [
    "Floor",
    "Gaussian",
    "KidSubsets",
    "at_sizes_of",
    "density_coverage",
    "fid",
    "kid",
    "kid_subsets",
    "measures_of",
    "precision_recall",
    "real_floor",
    "realism",
]
