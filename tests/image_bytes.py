"""PNG and TIFF files written byte by byte, by an encoder that shares no code with Pillow."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_FORM = {2: "B", 3: "H", 4: "I"}  # types of TIFF values
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk."""
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def png(samples: np.ndarray, depth: int, *chunks: bytes, interlaced: bool = False) -> bytes:
    """Return a PNG of samples [H, W, C], C of 1 grey, 2 with alpha, 3 colour, 4 with alpha."""
    height, width, channels = samples.shape
    passes = [samples]
    if interlaced:
        passes = [samples[y::down, x::right] for y, x, down, right in _ADAM7] + [samples[1::2]]
    lines = b"".join(b"\0" + _packed(row[None], depth, ">") for each in passes for row in each)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))
    body = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body) + chunk(b"IEND", b"")


def exif(orientation: int) -> bytes:
    """Return a PNG chunk that says how the picture is to be turned."""
    entry = struct.pack("<HHHIHH", 1, 274, 3, 1, orientation, 0)
    return chunk(b"eXIf", b"II*\0\x08\0\0\0" + entry + bytes(4))


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int | None,
    *,
    order: str = "<",
    tile: int | None = None,
    rows: int | None = None,
    deflate: bool = False,
    tags: dict[int, tuple[int, list[int]]] | None = None,
) -> bytes:
    """Return a TIFF of samples [H, W, C].

    Args:
        samples: integers below 2**bits.
        bits: a sample: 1, 2, 4, 8, 12, 16 or 32.
        photometric: 0 white is zero, 1 black is zero, 2 RGB; None leaves the tag out.
        order: `<` or `>`, of bytes.
        tile: side of square tiles; None writes strips.
        rows: of a strip.
        deflate: compress.
        tags: further ones, number to (type, values); 284: (3, [2]) writes planes apart.
    """
    height, width, channels = samples.shape
    apart = tags is not None and tags.get(284) == (3, [2])
    planes = np.split(samples, channels, axis=2) if apart else [samples]
    blocks = []
    for plane in planes:
        if tile is None:
            step = rows or height
            parts = [plane[y : y + step] for y in range(0, height, step)]
        else:
            padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            places = np.ndindex(-(-height // tile), -(-width // tile))
            cut = [
                (slice(y * tile, y * tile + tile), slice(x * tile, x * tile + tile))
                for y, x in places
            ]
            parts = [padded[place] for place in cut]
        blocks += [_packed(part, bits, order) for part in parts]
    blocks = [zlib.compress(block) for block in blocks] if deflate else blocks
    starts = np.cumsum([8, *(len(block) + len(block) % 2 for block in blocks)]).tolist()
    every = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [8 if deflate else 1]),
        277: (3, [channels]),
        **({262: (3, [photometric])} if photometric is not None else {}),
        **({322: (4, [tile]), 323: (4, [tile])} if tile else {278: (4, [rows or height])}),
        (324 if tile else 273): (4, starts[:-1]),
        (325 if tile else 279): (4, [len(block) for block in blocks]),
        **(tags or {}),
    }
    data = b"".join(block + b"\0" * (len(block) % 2) for block in blocks)
    start = struct.pack(f"{order}HI", 42, starts[-1])
    return (b"II" if order == "<" else b"MM") + start + data + _directory(every, starts[-1], order)


def turned(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Return the upright picture of stored pixels, as TIFF 6.0 defines orientations 1 to 8."""
    picture = stored.swapaxes(0, 1) if orientation >= 5 else stored
    # 5 mirrors at the diagonal alone; rows of 3 and 4 run upwards, columns of 2 and 3 leftwards
    upwards = orientation in (3, 4, 7, 8)
    leftwards = orientation in (2, 3, 6, 7)
    return picture[:: -1 if upwards else 1, :: -1 if leftwards else 1]


def _packed(samples: np.ndarray, bits: int, order: str) -> bytes:
    if bits in (8, 16, 32):
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    lines = samples.reshape(samples.shape[0], -1)
    spread = (lines[..., None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(spread.reshape(len(lines), -1), axis=1).tobytes()


def _directory(tags: dict[int, tuple[int, list[int]]], start: int, order: str) -> bytes:
    entries, beyond = b"", b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{_FORM[kind]}", *values)
        if len(raw) > 4:
            place = struct.pack(f"{order}I", after + len(beyond))
            beyond += raw + b"\0" * (len(raw) % 2)
        else:
            place = raw.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + beyond
