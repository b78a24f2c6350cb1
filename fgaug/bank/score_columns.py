"""Names and types of a bank's score columns, which filters use too."""

from __future__ import annotations

from collections.abc import Mapping

NUMBER, BOOLEAN, TEXT = "number", "boolean", "text"
COLUMNS: Mapping[str, tuple[str, str]] = {  # column: (name of its scorer, type)
    "realism": ("features", NUMBER),  # Kynkaanniemi et al. 2019, equation 5
    "density": ("features", NUMBER),  # number of reals whose ball contains the fake, over k
    "nearest_distance": ("features", NUMBER),  # to the nearest training real of its label
    "nearest": ("features", TEXT),  # image_id of that real
    "copy": ("features", BOOLEAN),  # closer to it than reals of other patients are
    "confidence": ("classifier", NUMBER),  # probability of the fake's own label
    "margin": ("classifier", NUMBER),  # that minus the largest of another label
    "agrees": ("classifier", BOOLEAN),  # its own label is the most likely
    "logit": ("discriminator", NUMBER),  # of the discriminator trained beside the generator
}
SCORERS = tuple(dict.fromkeys(name for name, _ in COLUMNS.values()))


def columns_of(name: str) -> tuple[str, ...]:
    """Return the columns of a scorer by its name."""
    return tuple(column for column, (scorer, _) in COLUMNS.items() if scorer == name)
