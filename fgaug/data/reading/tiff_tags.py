"""Check TIFF tags that Pillow ignores."""

from __future__ import annotations

import re

from PIL import ImageFile

from fgaug.data.reading.samples import BrokenImageError

_BITS, _PHOTOMETRIC, _DESCRIPTION, _PLANAR, _SAMPLE_FORMAT = 258, 262, 270, 284, 339
_STACK = re.compile(r"\AImageJ=.*?^images=(\d+)", re.DOTALL | re.MULTILINE)


def check_tiff(opened: ImageFile.ImageFile) -> None:
    """Refuse a TIFF that Pillow opens but decodes wrongly.

    Raises:
        BrokenImageError: the photometric interpretation is missing, 8-bit samples are signed,
            planes are separate in a way that Pillow cannot decode, or ImageJ declares further
            slices.
    """
    tags = getattr(opened, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) is None and opened.mode in ("1", "L", "I", "I;16", "I;16B"):
        raise BrokenImageError(
            "the TIFF does not say whether 0 is black or white (PhotometricInterpretation is "
            "missing); export it again"
        )
    bits = _numbers(tags.get(_BITS, 1))
    if 2 in _numbers(tags.get(_SAMPLE_FORMAT)) and max(bits, default=1) <= 8:
        raise BrokenImageError(
            "pixels are signed 8-bit numbers; export it with pixels from 0 to 255"
        )
    if tags.get(_PLANAR) == 2 and not _planes_are_decoded(opened, bits, tags.get(_PHOTOMETRIC)):
        raise BrokenImageError(
            "colour planes are separate (PlanarConfiguration 2); export it interleaved"
        )
    stack = _STACK.match(str(tags.get(_DESCRIPTION, "")))
    if stack is not None and int(stack[1]) > 1:
        raise BrokenImageError(f"{stack[1]} frames (ImageJ); export each frame to its own file")


def _planes_are_decoded(
    opened: ImageFile.ImageFile, bits: tuple[int, ...], photometric: object
) -> bool:
    """Return whether Pillow decodes separate planes, which most grey files declare by mistake.

    It unpacks an uncompressed plane by the first letter of its raw mode: `R` of `RGB` is right,
    `L` of `L;I` fails to invert, `I` of `I;16` has another size. Of compressed 16-bit planes only
    the high bytes are available.
    """
    by_libtiff = bool(opened.tile) and opened.tile[0].codec_name == "libtiff"
    if by_libtiff:
        return len(bits) == 1 or set(bits) <= {8}
    return photometric != 0 and (set(bits) <= {8} or (bits == (1,) and opened.mode == "1"))


def _numbers(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in values if isinstance(number, int))
