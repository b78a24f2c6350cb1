"""The old name of `fgaug.training.pytorch.models`, for scripts written before the rooms."""

from fgaug.training.pytorch.models import Classifier as Classifier
from fgaug.training.pytorch.models import build as build
