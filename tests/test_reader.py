"""Reader: every kind of image file against bytes whose pixels are known."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
from image_bytes import chunk, exif, png, tiff, turned
from PIL import Image, ImageCms

from fgaug.core.image_formats import EXTENSIONS
from fgaug.data.reading.loading import ImageFile, load_images
from fgaug.data.reading.samples import BrokenImageError, jpeg2000_precision
from fgaug.data.reading.source_image import read_image, read_source
from fgaug.data.reading.squares import image_sha256

DRAW = np.random.RandomState(5)
GREY, COLOUR, ALPHA = (DRAW.randint(0, 65536, (9, 13, channels)) for channels in (1, 3, 1))
GREY_8, COLOUR_8 = ((each >> 8).astype(np.uint8) for each in (GREY, COLOUR))


def nearest(samples: np.ndarray, bits: int = 16) -> np.ndarray:
    """Return the rule: a sample as a share of its range, at the nearest of 256 levels."""
    return np.round(samples / (2**bits - 1) * 255).astype(np.uint8)


def over_black(samples: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.round(samples * (alpha / 65535))


@pytest.fixture
def read(tmp_path: Path) -> object:
    def reading(data: bytes, name: str = "a.tif") -> np.ndarray:
        (tmp_path / name).write_bytes(data)
        return read_image(tmp_path / name)

    return reading


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def press_of_black_alone() -> bytes:
    """Return an ICC profile of a press whose lightness is that of its black ink alone."""
    ramp = bytes(range(256))
    corners = b"".join(
        bytes([0 if black else 255, 128, 128]) for _ in range(8) for black in (0, 1)
    )
    unity = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unity + ramp * 4 + corners + ramp * 3
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50
    tags = [(b"wtpt", b"XYZ " + bytes(4) + white), (b"A2B0", lut + bytes(-len(lut) % 4))]
    start, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, body in tags:
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(
        ">I4sI4s4s4s", start + len(data), b"", 0x02400000, b"prtr", b"CMYK", b"Lab "
    )
    date = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    head += date + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + table + data


KINDS = {
    "a.png": ("PNG", {}),
    "a.apng": ("PNG", {}),
    "a.bmp": ("BMP", {}),
    "a.dib": ("DIB", {}),
    "a.tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "a.webp": ("WEBP", {"lossless": True}),
    "a.ppm": ("PPM", {}),
    "a.pgm": ("PPM", {}),
    "a.pnm": ("PPM", {}),
    "a.jp2": ("JPEG2000", {}),
    "a.jpx": ("JPEG2000", {}),
    "a.j2k": ("JPEG2000", {"no_jp2": True}),
    "a.jpc": ("JPEG2000", {"no_jp2": True}),
    "a.tga": ("TGA", {"compression": "tga_rle"}),
    "a.pcx": ("PCX", {}),
}


class TestKinds:
    """Formats: the same pixels from each, under each of their names."""

    @pytest.mark.parametrize("name", KINDS)
    def test_without_loss(self, read: object, name: str) -> None:
        kind, options = KINDS[name]
        assert Path(name).suffix in EXTENSIONS
        for pixels in (GREY_8, COLOUR_8):
            data = saved(Image.fromarray(pixels.squeeze()), kind, **options)
            assert np.array_equal(read(data, name), pixels)
            if name not in ("a.tga", "a.pcx", "a.dib"):  # known by name: no signature of their own
                assert np.array_equal(read(data, "other name.jpg"), pixels)

    @pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.jpe", "a.jfif", "a.jif"])
    def test_jpeg(self, read: object, name: str) -> None:
        data = saved(Image.fromarray(COLOUR_8), "JPEG", quality=95)
        assert np.array_equal(read(data, name), np.asarray(Image.open(io.BytesIO(data))))
        assert Path(name).suffix.lower() in EXTENSIONS

    def test_avif(self, read: object) -> None:
        smooth = np.add.outer(np.arange(48), 2 * np.arange(64)).astype(np.uint8)
        found = read(saved(Image.fromarray(smooth), "AVIF", quality=100), "a.avif")
        assert np.abs(found[..., 0].astype(int) - smooth).max() <= 1

    @pytest.mark.parametrize("quality", [30, 80, 95])
    def test_grey_of_lossy_webp_stays_grey(self, read: object, quality: int) -> None:
        found = read(saved(Image.fromarray(GREY_8[..., 0]), "WEBP", quality=quality), "a.webp")
        assert found.shape == GREY_8.shape
        assert read(saved(Image.fromarray(COLOUR_8), "WEBP"), "a.webp").shape == COLOUR_8.shape
        tinted = np.repeat(GREY_8 // 2, 3, axis=2) + np.array([0, 0, 1], np.uint8)
        whole = saved(Image.fromarray(tinted), "WEBP", lossless=True)
        assert np.array_equal(read(whole, "a.webp"), tinted)

    def test_gif_and_palettes(self, read: object) -> None:
        few = Image.fromarray(COLOUR_8).quantize(64)
        for kind, name in (("GIF", "a.gif"), ("PNG", "a.png"), ("PCX", "a.pcx")):
            assert np.array_equal(read(saved(few, kind), name), np.asarray(few.convert("RGB")))

    def test_netpbm_by_hand(self, read: object) -> None:
        deep = GREY >> 4
        data = b"P5 # 12 bits\n13 9\n4095\n" + deep.astype(">u2").tobytes()
        assert np.array_equal(read(data, "a.pgm"), nearest(deep, 12))
        data = b"P6\n13 9\n65535\n" + COLOUR.astype(">u2").tobytes()
        assert np.array_equal(read(data, "a.ppm"), nearest(COLOUR))
        data = b"P5\n13 9\n15\n" + (GREY >> 12).astype(np.uint8).tobytes()
        assert np.array_equal(read(data, "a.pgm"), nearest(GREY >> 12, 4))
        assert read(b"P1\n3 1\n1 0 1\n", "a.pbm").ravel().tolist() == [0, 255, 0]
        assert read(b"P4\n3 1\n\xa0", "a.pbm").ravel().tolist() == [0, 255, 0]

    def test_cmyk(self, read: object) -> None:
        inks = Image.fromarray(DRAW.randint(0, 256, (8, 8, 4)).astype(np.uint8), "CMYK")
        assert np.array_equal(read(saved(inks, "TIFF")), np.asarray(inks.convert("RGB")))
        black = np.zeros((8, 8, 4), np.uint8)
        black[..., 3] = np.arange(0, 256, 4).reshape(8, 8)
        jpeg = saved(Image.fromarray(black, "CMYK"), "JPEG", quality=100)  # Adobe's, inverted
        assert np.abs(read(jpeg, "a.jpg")[..., 0].astype(int) - (255 - black[..., 3])).max() <= 2

    def test_cmyk_by_the_profile_of_its_own(self, read: object) -> None:
        inks = np.full((8, 8, 4), 200, np.uint8)  # much of every ink, which this press ignores
        inks[..., 3] = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
        picture = Image.fromarray(inks, "CMYK")
        found = read(saved(picture, "TIFF", icc_profile=press_of_black_alone()))
        lightness = (1 - inks[..., 3] / 255) * 100
        share = ((lightness + 16) / 116) ** 3  # CIE 1976, above the dark end
        expected = np.where(share > 0.0031308, 1.055 * share ** (1 / 2.4) - 0.055, 0) * 255
        light = lightness > 20
        assert np.abs(found.mean(axis=2) - expected)[light].max() < 3
        wrong = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        for profile in (wrong, b"no profile"):
            with pytest.raises(BrokenImageError, match="CMYK with an unsuitable colour profile"):
                read(saved(picture, "TIFF", icc_profile=profile))

    def test_profiles_of_grey_and_rgb_change_nothing(self, read: object) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        data = saved(Image.fromarray(COLOUR_8), "PNG", icc_profile=profile)
        assert np.array_equal(read(data, "a.png"), COLOUR_8)


class TestTransparency:
    """Transparent is black, whatever the way it is stored."""

    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_a_transparent_grey(self, read: object, depth: int) -> None:
        samples = GREY >> (16 - depth)
        key = int(samples[2, 3, 0])
        expected = nearest(np.where(samples == key, 0, samples), depth)
        found = read(png(samples, depth, chunk(b"tRNS", struct.pack(">H", key))), "a.png")
        assert np.array_equal(found, expected)

    @pytest.mark.parametrize("depth", [8, 16])
    def test_a_transparent_colour(self, read: object, depth: int) -> None:
        samples = COLOUR >> (16 - depth)
        samples[2, 4] = samples[2, 3] + [0, 0, 1]  # its neighbour in colour stays
        key = chunk(b"tRNS", struct.pack(">HHH", *samples[2, 3]))
        expected = samples.copy()
        expected[2, 3] = 0
        assert np.array_equal(read(png(samples, depth, key), "a.png"), nearest(expected, depth))

    def test_alpha_of_16_bits(self, read: object) -> None:
        for samples in (GREY, COLOUR):
            found = read(png(np.concatenate([samples, ALPHA], axis=2), 16), "a.png")
            assert np.array_equal(found, nearest(over_black(samples, ALPHA)))

    @pytest.mark.parametrize("order", "<>")
    def test_alpha_in_tiff(self, read: object, order: str) -> None:
        four = np.concatenate([COLOUR, ALPHA], axis=2)
        unspecified, multiplied, straight = ({338: (3, [kind])} for kind in (0, 1, 2))
        found = read(tiff(four, 16, 2, order=order, tags=straight))
        assert np.array_equal(found, nearest(over_black(COLOUR, ALPHA)))
        found = read(tiff(four, 16, 2, order=order, tags=unspecified))
        assert np.array_equal(found, nearest(COLOUR))
        four[..., :3] = four[..., :3] * ALPHA // 65535
        found = read(tiff(four, 16, 2, order=order, tags=multiplied))
        assert np.array_equal(found, nearest(four[..., :3]))

    def test_palettes_and_gif(self, read: object) -> None:
        few = Image.fromarray(COLOUR_8).quantize(16)
        table = np.array(few.getpalette()[:48]).reshape(16, 3)
        table[3] = 0
        expected = table[np.asarray(few)].astype(np.uint8)
        for kind, how in (("PNG", bytes([255] * 3 + [0] + [255] * 12)), ("GIF", 3)):
            assert np.array_equal(read(saved(few, kind, transparency=how), "a.png"), expected)
        grey = Image.fromarray(GREY_8[..., 0])
        key = int(GREY_8[1, 1, 0])
        found = read(saved(grey, "GIF", transparency=key), "a.gif")
        assert np.array_equal(found, np.where(key == GREY_8, 0, GREY_8))


class TestDepth:
    """More or fewer than 8 bits: one rule for all."""

    @pytest.mark.parametrize("interlaced", [False, True])
    def test_grey_and_colour_agree(self, read: object, interlaced: bool) -> None:
        assert np.array_equal(
            read(png(COLOUR, 16, interlaced=interlaced), "a.png"), nearest(COLOUR)
        )
        grey = read(png(GREY, 16, interlaced=interlaced), "a.png")
        assert np.array_equal(grey, nearest(GREY))
        repeated = np.repeat(GREY, 3, axis=2)
        copies = [
            read(png(repeated, 16), "a.png"),
            read(tiff(repeated, 16, 2)),
            read(tiff(repeated, 16, 2, order=">", deflate=True)),
            read(b"P6\n13 9\n65535\n" + repeated.astype(">u2").tobytes(), "a.ppm"),
            read(saved(Image.fromarray(GREY[..., 0].astype(np.uint16)), "JPEG2000"), "a.jp2"),
        ]
        assert {image_sha256(copy) for copy in copies} == {image_sha256(grey)}

    @pytest.mark.parametrize("photometric", [0, 1])
    @pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
    def test_black_and_white_of_tiff(self, read: object, bits: int, photometric: int) -> None:
        samples = GREY >> (16 - bits)
        expected = nearest(samples if photometric else 2**bits - 1 - samples, bits)
        layouts = list(itertools.product("<>", (None, 16), (False, True)))
        found = []
        for order, tile, deflate in layouts:
            data = tiff(samples, bits, photometric, order=order, tile=tile, deflate=deflate)
            # what Pillow does not know is refused, never shown wrong
            with contextlib.suppress(BrokenImageError):
                found.append(read(data))
        known = {(16, 0): 4, (12, 1): 4, (12, 0): 0}  # most significant byte first is not
        assert len(found) == known.get((bits, photometric), len(layouts))
        assert all(np.array_equal(each, expected) for each in found)

    def test_numbers_of_32_bits_and_signed_ones(self, read: object) -> None:
        signed = {339: (3, [2])}
        assert np.array_equal(read(tiff(GREY, 32, 1)), nearest(GREY))
        assert np.array_equal(read(tiff(GREY // 2, 16, 1, tags=signed)), nearest(GREY // 2))
        for data, reason in (
            (tiff(GREY * 9, 32, 1), "export them as 0 to 65535"),
            (tiff(GREY, 16, 1, tags=signed), "pixels from -"),
            (tiff(GREY >> 8, 8, 1, tags=signed), "signed 8-bit"),
        ):
            with pytest.raises(BrokenImageError, match=reason):
                read(data)

    def test_precision_of_jpeg_2000(self, read: object) -> None:
        deep = saved(Image.fromarray(GREY[..., 0].astype(np.uint16)), "JPEG2000")
        assert jpeg2000_precision(deep) == (16, False)
        assert jpeg2000_precision(b"no codestream") is None
        start = deep.index(b"\xff\x4f\xff\x51") + 42
        with pytest.raises(BrokenImageError, match="signed"):
            read(deep[:start] + b"\x8f" + deep[start + 1 :], "a.jp2")
        colour = saved(Image.fromarray(COLOUR_8), "JPEG2000")
        start = colour.index(b"\xff\x4f\xff\x51") + 42
        with pytest.raises(BrokenImageError, match="12-bit RGB"):
            read(colour[:start] + b"\x0b" + colour[start + 1 :], "a.jp2")


class TestOrientation:
    """All eight, wherever a format can say them."""

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_tiff_is_as_png(self, read: object, orientation: int) -> None:
        tag = {274: (3, [orientation])}
        for samples, bits in ((GREY, 16), (GREY >> 8, 8), (COLOUR >> 8, 8), (COLOUR, 16)):
            expected = nearest(turned(samples, orientation), bits)
            assert np.array_equal(read(png(samples, bits, exif(orientation)), "a.png"), expected)
            for layout in ({}, {"tile": 16}, {"rows": 4}, {"deflate": True}):
                photometric = 2 if samples is not GREY and samples.shape[2] == 3 else 1
                found = read(tiff(samples, bits, photometric, tags=tag, **layout))
                assert np.array_equal(found, expected)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["a.webp", "a.jpg"])
    def test_photographs(self, read: object, name: str, orientation: int) -> None:
        note = Image.Exif()
        note[274] = orientation
        flat = np.kron(np.arange(0, 250, 10).reshape(5, 5), np.ones((16, 24))).astype(np.uint8)
        kind = "WEBP" if name == "a.webp" else "JPEG"
        found = read(saved(Image.fromarray(flat), kind, exif=note, quality=95), name)
        gap = found[..., 0].astype(int) - turned(flat, orientation).astype(int)
        assert np.abs(gap).max() < 8


class TestRefusals:
    """Never wrong pixels: the rule and the cure instead."""

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_frames_are_counted(self, read: object, kind: str) -> None:
        frames = [Image.fromarray(GREY_8[..., 0] // step) for step in (1, 2, 3)]
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(BrokenImageError, match="3 frames; export each frame"):
            read(data)

    def test_a_stack_of_imagej(self, read: object) -> None:
        said = [*b"ImageJ=1.54f\nimages=12\nslices=12\nloop=false\n\0"]
        with pytest.raises(BrokenImageError, match=r"12 frames \(ImageJ\)"):
            read(tiff(GREY, 16, 1, tags={270: (2, said)}))
        alone = [*b"ImageJ=1.54f\nmin=0\nmax=255\n\0"]
        assert np.array_equal(read(tiff(GREY, 16, 1, tags={270: (2, alone)})), nearest(GREY))

    @pytest.mark.parametrize(
        ("samples", "bits", "photometric", "deflate"),
        [
            (GREY, 16, 1, False),
            (GREY >> 8, 8, 0, False),
            (COLOUR, 16, 2, False),
            (COLOUR, 16, 2, True),
        ],
    )
    def test_planes_apart(
        self, read: object, samples: np.ndarray, bits: int, photometric: int, deflate: bool
    ) -> None:
        with pytest.raises(BrokenImageError, match="PlanarConfiguration 2"):
            read(tiff(samples, bits, photometric, deflate=deflate, tags={284: (3, [2])}))

    def test_planes_apart_that_are_decoded(self, read: object) -> None:
        apart = {284: (3, [2])}
        assert np.array_equal(read(tiff(COLOUR >> 8, 8, 2, tags=apart)), COLOUR_8)
        assert np.array_equal(read(tiff(GREY >> 8, 8, 1, tags=apart)), GREY_8)

    def test_what_is_not_said_or_is_no_light(self, read: object) -> None:
        with pytest.raises(BrokenImageError, match="whether 0 is black or white"):
            read(tiff(GREY, 16, None))
        with pytest.raises(BrokenImageError, match="CIE Lab"):
            read(tiff(COLOUR >> 8, 8, 8))

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "the file is empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
            (b"\n<!DOCTYPE html><html>", "an HTML page"),
            (bytes(128) + b"DICM" + bytes(60), "a DICOM file"),
            (
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
                "a PostScript drawing; export",
            ),
            (b"see the readme\n", "a text file, not a PNG, JPEG"),
            (b"\x89PNG\r\n\x1a\n" + bytes(30), "a PNG image, damaged or truncated"),
            (bytes(344) + b"n+1\0", "a NIfTI volume; export its slices"),
            (bytes(4) + b"ftypisom" + bytes(20), "a video .*; export its frames"),
            (b"MATLAB 5.0 MAT-file" + b" " * 120, "a MATLAB file .*; save its images"),
            (b"%PDF-1.7\n", "a PDF"),
            (b"8BPS" + bytes(40), "a Photoshop file"),
            (bytes(4) + b"ftypheic" + bytes(20), "a HEIC photograph"),
            (b"PK\x03\x04" + bytes(30), "truncated zip archive"),
        ],
    )
    def test_other_files_under_an_image_name(self, read: object, data: bytes, reason: str) -> None:
        with pytest.raises(BrokenImageError, match=reason):
            read(data, "a.png")

    @pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of odd tags before it fails
    def test_damaged_bytes_raise_or_read(self, read: object, tmp_path: Path) -> None:
        draw = np.random.RandomState(0)
        wholes = [
            saved(Image.fromarray(COLOUR_8), kind)
            for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF")
        ]
        wholes += [tiff(COLOUR, 16, 2, deflate=True), png(COLOUR, 16), tiff(GREY >> 4, 12, 1)]
        refused = 0
        for whole in wholes:
            for _ in range(12):
                data = bytearray(whole)
                for place in draw.randint(0, len(data), 4):
                    data[place] = draw.randint(256)
                try:
                    assert read(bytes(data[: draw.randint(4, len(data))])).dtype == np.uint8
                except BrokenImageError:
                    refused += 1
        assert refused > 50

    def test_folders_and_lost_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").mkdir()
        with pytest.raises(BrokenImageError, match="a folder, not an image file"):
            read_image(tmp_path / "a.png")
        with pytest.raises(BrokenImageError, match="no such file"):
            read_image(tmp_path / "b.png")


class TestWarnings:
    """What is read, but looks as if it were stored wrong."""

    def load(self, folder: Path, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        paths = [ImageFile(name=name, path=folder / name) for name in files]
        load_images(paths, size=8).close()

    def test_unused_bits_by_file_and_share(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        files = {
            "ten.png": png(GREY >> 6, 16),
            "twelve.tif": tiff(GREY >> 4, 16, 1),
            "white is zero.tif": tiff(GREY >> 4, 16, 0),
            "colour.png": png(COLOUR >> 4, 16),
            "netpbm.ppm": b"P6\n13 9\n65535\n" + (COLOUR >> 4).astype(">u2").tobytes(),
            "eight in 32.tif": tiff(GREY >> 8, 32, 1),
            "full.png": png(GREY, 16),
            "said.pgm": b"P5\n13 9\n4095\n" + (GREY >> 4).astype(">u2").tobytes(),
            "said.tif": tiff(GREY >> 4, 12, 1),
            "black.png": png(GREY * 0, 16),
            "eight.png": png(GREY >> 8, 8),
            "dark.png": png(GREY >> 12, 8),
        }
        with caplog.at_level(logging.WARNING, "fgaug"):
            self.load(tmp_path, files)
        (record,) = caplog.records
        text = record.getMessage()
        assert "6 images of 12 (50%)" in text
        for name in ("ten.png (10 bits)", "twelve.tif (12 bits)", "white is zero.tif (12 bits)"):
            assert name in text
        for name in ("colour.png (12", "netpbm.ppm (12", "eight in 32.tif (8 bits)"):
            assert name in text
        for name in ("full.png", "said", "black", "eight.png", "dark.png"):
            assert name not in text

    def test_photographs_with_a_preview(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, preview = (Image.fromarray(GREY_8[..., 0] // step) for step in (1, 2))
        data = saved(first, "MPO", save_all=True, append_images=[preview], quality=100)
        with caplog.at_level(logging.WARNING, "fgaug"):
            self.load(tmp_path, {"phone.jpg": data, "b.png": png(GREY, 16)})
        assert "1 file contains more than one image" in caplog.text
        assert "phone.jpg" in caplog.text
        source = read_source(tmp_path / "phone.jpg")
        assert source.pictures == 2
        assert np.abs(source.pixels.astype(int) - GREY_8).mean() < 2
