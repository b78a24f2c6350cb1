"""The old name of `fgaug.grid.recipe`, for scripts that were written before the rooms."""

from fgaug.grid.recipe import Budget as Budget
from fgaug.grid.recipe import Recipe as Recipe
