"""Imported images: found by their names, brought to the bank's size, told apart by content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_grid import grid, phantom_dataset

from fgaug.bank import Bank, BankSpec, open_bank
from fgaug.bank.import_images import SHA256, digests, import_folders, pixels_digest
from fgaug.bank.resize import fit_to_bank
from fgaug.bank.seed_files import LabelFolder, find, find_all
from fgaug.core.image_formats import EXTENSIONS
from fgaug.data.reading.source_image import read_image
from fgaug.errors import BankError, SnapshotError
from fgaug.grid.load import parse_space
from fgaug.study.planner import plan


def pixels(key: int, size: int = 8, channels: int = 1) -> np.ndarray:
    drawn = np.random.RandomState(key).randint(0, 256, (size, size, channels))
    return drawn.astype(np.uint8)


def save(path: Path, image: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path, **options)
    return path


@pytest.fixture
def images(odd_root: Path) -> Path:
    """Return a folder of two labels and reals, as the study's `--prefix` left them."""
    folder = odd_root / "images"
    for seed in (1, 2, 12):
        save(folder / f"trv_seed{seed:04d}.png", pixels(seed))
        save(folder / f"dbp_seed{seed:04d}.png", pixels(100 + seed))
    save(folder / "real 7.png", pixels(7))
    return folder


def two(folder: Path) -> list[LabelFolder]:
    return [
        LabelFolder(label=label, folder=folder, pattern=f"{label}_seed{{seed}}.png")
        for label in ("dbp", "trv")
    ]


def brought_in(bank: Path, folder: Path, psi: float = 0.7, **options: Any) -> Bank:
    asked = [LabelFolder(label="trv", folder=folder)]
    return import_folders(bank, asked, psi, read_image, **options)


def names(folder: Path, pattern: str | None = None) -> dict[int, str]:
    return {z_seed: path.name for z_seed, path in find(folder, pattern)}


class TestFinding:
    def touch(self, folder: Path, *files: str) -> Path:
        for name in files:
            (folder / name).touch()
        return folder

    def test_digits_that_end_the_stem(self, odd_root: Path) -> None:
        made = ["seed0012.png", "a7.BMP", "3.jpg", "x 2_5.jpeg", "4294967295.png"]
        self.touch(odd_root, *made, "notes1.txt", ".hidden9.png")
        (odd_root / "folder8.png").mkdir()
        assert names(odd_root) == {
            3: "3.jpg",
            5: "x 2_5.jpeg",
            7: "a7.BMP",
            12: "seed0012.png",
            4294967295: "4294967295.png",
        }
        assert list(names(odd_root)) == sorted(names(odd_root))

    @pytest.mark.parametrize(
        ("pattern", "name", "z_seed"),
        [
            ("trv_seed{seed}.png", "trv_seed0012.png", 12),
            ("*{seed}.png", "trv2_0012.png", 12),
            ("trv*seed{seed}*.png", "trv_a_seed012_v3.png", 12),
            ("*{seed}*", "012x34.png", 12),
            ("{seed}.p[n]g", "3.p[n]g", 3),
            ("a+(b){seed}?.png", "a+(b)4?.png", 4),
            ("*seed{seed}.png", "line\nseed5.png", 5),
        ],
    )
    def test_patterns(self, tmp_path: Path, pattern: str, name: str, z_seed: int) -> None:
        self.touch(tmp_path, name, "other.png", "trvseedx.png")
        assert names(tmp_path, pattern) == {z_seed: name}

    def test_labels_and_reals_of_one_folder(self, images: Path) -> None:
        found = find_all(two(images))
        assert [(file.label, file.z_seed) for file in found] == [
            ("dbp", 1),
            ("dbp", 2),
            ("dbp", 12),
            ("trv", 1),
            ("trv", 2),
            ("trv", 12),
        ]

    @pytest.mark.parametrize("pattern", ["seed.png", "{seed}{seed}.png", "a/{seed}.png", ""])
    def test_what_is_no_pattern(self, tmp_path: Path, pattern: str) -> None:
        with pytest.raises(BankError, match=r"A pattern must be a file name with {seed} once"):
            find(tmp_path, pattern)

    def test_what_cannot_be_told_apart(self, images: Path) -> None:
        with pytest.raises(BankError) as caught:
            find(images)
        assert "two files for one z_seed: dbp_seed0001.png and trv_seed0001.png, " in str(
            caught.value
        )
        assert "with a --pattern for each label" in str(caught.value)
        with pytest.raises(BankError, match=r"z_seed: trv_seed0001.png and trv_seed1.png\."):
            find(self.touch(images, "trv_seed1.png"), "trv_seed{seed}.png")

    def test_names_without_digits(self, tmp_path: Path) -> None:
        self.touch(tmp_path, "seed1.png", "grid.png", *(f"x{n}_.png" for n in range(20)))
        with pytest.raises(BankError) as caught:
            find(tmp_path)
        found = str(caught.value)
        assert "do not end in a number: grid.png, x0_.png, " in found
        assert "and 11 more. Show the position of the seed with --pattern" in found

    def test_nothing_found(self, tmp_path: Path) -> None:
        with pytest.raises(BankError) as caught:
            find(tmp_path)
        assert str(caught.value) == f"{tmp_path} has no image ({', '.join(EXTENSIONS)})."
        self.touch(tmp_path, "a1.png")
        with pytest.raises(BankError, match=r"no file that fits b{seed}.png. It has a1.png\.$"):
            find(tmp_path, "b{seed}.png")
        with pytest.raises(BankError, match="none is not a folder"):
            find(tmp_path / "none")

    def test_no_seed_of_a_generator(self, tmp_path: Path) -> None:
        self.touch(tmp_path, "seed4294967296.png")
        with pytest.raises(BankError, match=r"0 and 4294967295, seed4294967296.png gives"):
            find(tmp_path)

    def test_labels_that_share_files(self, images: Path) -> None:
        dbp, trv = two(images)
        wide = LabelFolder(label="trv", folder=images, pattern="*seed{seed}.png")
        with pytest.raises(BankError, match=r"`trv`: .* has two files for one z_seed"):
            find_all([dbp, wide])
        for name in ("trv_seed0001.png", "trv_seed0002.png", "trv_seed0012.png"):
            (images / name).unlink()
        with pytest.raises(BankError) as caught:
            find_all([dbp, wide, LabelFolder(label="x", folder=images / "none")])
        first, second = str(caught.value).splitlines()
        assert first.startswith("`trv`: dbp_seed0001.png, dbp_seed0002.png, dbp_seed0012.png ")
        assert "would belong to `dbp` too." in first
        assert second.startswith("`x`: ")
        with pytest.raises(BankError, match="`trv` has two folders"):
            find_all([trv, trv])


class TestImporting:
    def test_what_was_found_is_there(self, odd_root: Path, images: Path) -> None:
        bank = import_folders(odd_root / "bank", two(images), 0.7, read_image)
        assert (bank.read("trv", 0.7, [12, 1])[0] == pixels(12)).all()
        assert (bank.read("dbp", 0.7, [2])[0] == pixels(102)).all()
        assert (bank.spec.size, bank.spec.channels, bank.spec.noise) == (8, 1, "seeded")
        sources = bank.spec.sources
        assert (sources["trv"].kind, sources["trv"].name) == ("imported", "imported")
        assert sources["trv"].sha256 != sources["dbp"].sha256
        assert len(open_bank(odd_root / "bank").index()) == 6

    def test_the_column_of_digests(self, odd_root: Path, images: Path) -> None:
        bank = import_folders(odd_root / "bank", two(images), 0.7, read_image)
        held = digests(bank.store, bank.shards, "trv", 0.7)
        assert held["z_seed"].tolist() == [1, 2, 12]
        expected = [hashlib.sha256(pixels(seed).tobytes()).hexdigest() for seed in (1, 2, 12)]
        assert held[SHA256].tolist() == expected
        assert digests(bank.store, bank.shards, "trv", 0.5).empty
        shard = next(odd_root.rglob("shards/trv/*/*.parquet"))
        assert pq.read_schema(shard).field("sha256").type == pa.string()

    def test_formats(self, tmp_path: Path) -> None:
        folder = tmp_path / "images"
        save(folder / "seed1.png", pixels(1))
        save(folder / "seed2.bmp", pixels(2))
        smooth = np.full((8, 8, 1), 90, np.uint8)
        save(folder / "seed3.JPG", smooth, quality=95)
        read = brought_in(tmp_path / "bank", folder).read("trv", 0.7, [1, 2, 3])
        assert (read == np.stack([pixels(1), pixels(2), smooth])).all()

    def test_larger_colour_images(self, tmp_path: Path) -> None:
        folder = tmp_path / "images"
        colour = [pixels(seed, 32, 3) for seed in (1, 2)]
        save(folder / "1.png", colour[0])
        save(folder / "2.png", pixels(2, 16, 3))
        bank = brought_in(tmp_path / "bank", folder, size=8, channels=1)
        assert (bank.read("trv", 0.7, [1]) == fit_to_bank(colour[0][None], 8, 1)).all()
        (folder / "2.png").unlink()
        native = brought_in(tmp_path / "other", folder, noise="const")
        assert (native.spec.size, native.spec.channels, native.spec.noise) == (32, 3, "const")
        assert (native.read("trv", 0.7, [1])[0] == colour[0]).all()

    def test_in_pieces_of_a_shard(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BankSpec, "shard_rows", 4)
        for seed in range(1, 11):
            save(tmp_path / "images" / f"{seed}.png", pixels(seed))
        seen: list[tuple[int, int]] = []
        bank = brought_in(
            tmp_path / "bank", tmp_path / "images", progress=lambda *told: seen.append(told)
        )
        assert sorted(shard.rows for shard in bank.shards) == [2, 4, 4]
        assert seen == [(done, 10) for done in range(1, 11)]
        expected = np.stack([pixels(seed) for seed in range(10, 0, -1)])
        assert (bank.read("trv", 0.7, range(10, 0, -1)) == expected).all()


class TestAgain:
    def test_images_that_are_held_are_skipped(self, tmp_path: Path) -> None:
        folder, root = tmp_path / "images", tmp_path / "bank"
        save(folder / "1.png", pixels(1))
        save(folder / "3.png", pixels(3))
        brought_in(root, folder)
        manifest = (root / "manifest.json").read_bytes()
        assert len(brought_in(root, folder).shards) == 1
        assert (root / "manifest.json").read_bytes() == manifest
        save(folder / "2.png", pixels(2))
        save(folder / "4.bmp", pixels(4))
        bank = brought_in(root, folder)
        assert sorted(shard.rows for shard in bank.shards) == [2, 2]
        assert len(brought_in(root, folder, psi=0.5).index()) == 8

    def test_other_pixels_for_a_seed(self, tmp_path: Path) -> None:
        folder, root = tmp_path / "images", tmp_path / "bank"
        save(folder / "1.png", pixels(1))
        brought_in(root, folder)
        save(folder / "1.png", pixels(2))
        save(folder / "5.png", pixels(5))
        with pytest.raises(BankError, match=r"another image as z_seed 1 of `trv` at psi 0.7"):
            brought_in(root, folder)
        assert len(open_bank(root).index()) == 1
        assert len(brought_in(root, folder, psi=0.5).index()) == 3

    def test_the_bank_says_size_and_channels(self, tmp_path: Path) -> None:
        root = tmp_path / "bank"
        save(tmp_path / "a" / "1.png", pixels(1))
        save(tmp_path / "b" / "2.png", pixels(2, 16, 3))
        brought_in(root, tmp_path / "a", noise="none")
        bank = brought_in(root, tmp_path / "b")
        assert (bank.spec.size, bank.spec.channels, bank.spec.noise) == (8, 1, "none")
        with pytest.raises(BankError, match="its size is 8, not 16"):
            brought_in(root, tmp_path / "b", size=16)

    def test_labels_one_after_the_other(self, tmp_path: Path, images: Path) -> None:
        root = tmp_path / "bank"
        save(tmp_path / "a" / "1.png", pixels(1))
        brought_in(root, tmp_path / "a")
        held = {label for label in open_bank(root).spec.sources}
        bank = import_folders(root, two(images), 0.7, read_image)
        assert set(bank.spec.sources) == held | {"dbp", "trv"}
        assert set(bank.index()["label"]) == set(bank.spec.sources)


class TestRefusals:
    def refused(self, tmp_path: Path, **options: Any) -> list[str]:
        """Return the message; nothing may be left that binds the bank."""
        with pytest.raises(BankError) as caught:
            brought_in(tmp_path / "bank", tmp_path / "images", **options)
        assert not list(tmp_path.rglob("*.parquet"))
        assert not list(tmp_path.rglob("manifest.json"))
        return str(caught.value).splitlines()

    def test_every_bad_file_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(BankSpec, "shard_rows", 2)
        folder = tmp_path / "images"
        for seed in range(1, 6):
            save(folder / f"{seed}.png", pixels(seed))
        (folder / "6.png").write_bytes((folder / "5.png").read_bytes()[:50])
        save(folder / "7.png", pixels(7)[:, :6])
        save(folder / "8.png", pixels(8)[:4, :4])
        (folder / "9.png").write_text("no image")
        save(folder / "10.png", pixels(10, 8, 3))
        head, *lines, cure = self.refused(tmp_path)
        assert head == "5 of 10 images cannot be imported:"
        for line, name, reason in zip(
            lines,
            ("6.png", "7.png", "8.png", "9.png", "10.png"),
            (
                "",
                "images must be square, but it has 6 x 8 px",
                "images must have 8 px or more, but it has 4 px",
                "a text file, not a PNG, JPEG, BMP, TIFF, WEBP",
                "it has colour, but the first image has none; give --channels 1 or 3",
            ),
            strict=True,
        ):
            assert line.startswith(f"  - {folder / name}: {reason}")
        assert cure == "Restore or remove these files. No image was imported."
        for name in (6, 7, 8, 9):
            (folder / f"{name}.png").unlink()
        grey = brought_in(tmp_path / "bank", folder, channels=1)
        assert len(grey.index()) == 6

    def test_many_bad_files(self, tmp_path: Path) -> None:
        save(tmp_path / "images" / "0.png", pixels(0))
        for seed in range(1, 31):
            (tmp_path / "images" / f"{seed}.png").write_text("x")
        head, *lines, _ = self.refused(tmp_path)
        assert head == "30 of 31 images cannot be imported:"
        assert len(lines) == 11
        assert lines[-1] == "  - and 20 more"

    def test_a_first_image_that_is_broken(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "1.png").write_text("x")
        (line,) = self.refused(tmp_path)
        assert line.endswith(
            "1.png: a text file, not a PNG, JPEG, BMP, TIFF, WEBP, GIF, PPM, JPEG2000 or AVIF "
            "image."
        )

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"size": 7}, "--size must lie from 8 to 2048 pixels, got 7."),
            ({"size": 0}, "--size must lie from 8 to 2048 pixels, got 0."),
            ({"channels": 2}, "--channels must be 1 or 3, got 2."),
            ({"noise": "random"}, "--noise must be one of seeded, const, none, got random."),
        ],
    )
    def test_what_a_bank_cannot_be(
        self, tmp_path: Path, options: dict[str, Any], expected: str
    ) -> None:
        save(tmp_path / "images" / "1.png", pixels(1))
        assert self.refused(tmp_path, **options) == [expected]

    def test_a_picture_too_large_for_a_bank(self, tmp_path: Path) -> None:
        save(tmp_path / "images" / "1.png", np.zeros((2049, 2049, 1), np.uint8))
        assert self.refused(tmp_path) == ["--size must lie from 8 to 2048 pixels, got 2049."]


class TestIdentity:
    """A finished cell stays finished when more is imported."""

    def frame(self, **sha256: str) -> pd.DataFrame:
        z_seeds = [int(name[1:]) for name in sha256]
        return pd.DataFrame({"z_seed": z_seeds, "sha256": list(sha256.values())})

    def test_the_text_that_is_hashed(self) -> None:
        text = '[[1,"aa"],[10,"bb"]]'
        expected = hashlib.sha256(text.encode()).hexdigest()
        assert json.loads(text) == [[1, "aa"], [10, "bb"]]
        assert pixels_digest(self.frame(_10="bb", _1="aa"), 10) == expected

    def test_what_the_pool_cannot_draw_is_left_out(self) -> None:
        inside = pixels_digest(self.frame(_1="aa", _2="bb"), 2)
        assert pixels_digest(self.frame(_0="zz", _3="yy", _2="bb", _1="aa"), 2) == inside
        assert pixels_digest(self.frame(_1="aa", _2="cc"), 2) != inside
        assert pixels_digest(self.frame(_1="aa"), 2) != inside
        assert pixels_digest(self.frame(_1="bb", _2="aa"), 2) != inside

    def test_more_imports_do_not_change_it(self, tmp_path: Path) -> None:
        folder, root = tmp_path / "images", tmp_path / "bank"
        for seed in (1, 2, 3):
            save(folder / f"{seed}.png", pixels(seed))
        bank = brought_in(root, folder)
        before = pixels_digest(digests(bank.store, bank.shards, "trv", 0.7), 3)
        save(folder / "4.png", pixels(4))
        brought_in(root, folder)
        bank = brought_in(root, folder, psi=1.0)
        assert pixels_digest(digests(bank.store, bank.shards, "trv", 0.7), 3) == before
        assert pixels_digest(digests(bank.store, bank.shards, "trv", 0.7), 4) != before


class TestInAGrid:
    def test_what_it_draws_must_be_there(self, tmp_path: Path) -> None:
        phantom_dataset(tmp_path)
        space = parse_space(grid(tmp_path, generator={"kind": "imported"}, pool=30))
        with pytest.raises(SnapshotError) as caught:
            plan(space)
        lines = str(caught.value).splitlines()
        assert [line[:39] for line in lines] == [
            f"the bank lacks imported images of `{label}`" for label in ("dbp", "trv")
        ]
        assert "Add them with `fgaug bank import`" in lines[0]
        for key in range(60):
            label = ("dbp", "trv")[key // 30]
            save(tmp_path / label / f"seed{key % 30 + 1:04d}.png", pixels(key, 32))
        folders = [LabelFolder(label=each, folder=tmp_path / each) for each in ("dbp", "trv")]
        import_folders(space.bank or "", folders, 1.0, read_image)
        (needs,) = plan(space).needs
        assert (needs.missing.count, needs.present > 0) == (0, True)

    def test_cells_are_known_by_the_pixels_they_can_draw(self, tmp_path: Path) -> None:
        phantom_dataset(tmp_path)

        def cells(bank: str, key: int) -> dict[str, str]:
            for label in ("dbp", "trv"):
                folder = tmp_path / bank / label
                for seed in range(1, 31):
                    save(folder / f"{seed}.png", pixels(seed + key * (seed == 30), 32))
                folders = [LabelFolder(label=label, folder=folder)]
                import_folders(tmp_path / bank / "bank", folders, 1.0, read_image)
            space = parse_space(
                grid(
                    tmp_path,
                    bank=str(tmp_path / bank / "bank"),
                    generator={"kind": "imported"},
                    pool=30,
                )
            )
            return {f"{cell.mode} {cell.seed}": cell.cell_id for cell in plan(space).cells}

        one, other = cells("one", 0), cells("other", 1)
        assert {name for name in one if one[name] != other[name]} == {
            "augmentation 1",
            "augmentation 2",
        }
        save(tmp_path / "one" / "trv" / "31.png", pixels(99, 32))
        assert cells("one", 0) == one


class TestCommand:
    def test_import(self, fgaug: Any, odd_root: Path, images: Path) -> None:
        bank = odd_root / "bank"
        each = ["--pattern", "dbp=dbp_seed{seed}.png", "--pattern", "trv=trv_seed{seed}.png"]
        code, out, err = fgaug(
            "bank",
            "import",
            bank,
            "--folder",
            f"dbp={images}",
            "--folder",
            f"trv={images}",
            "--psi",
            "0.7",
            *each,
            "--channels",
            3,
            "--noise",
            "const",
        )
        assert (code, err) == (0, "")
        assert out == "dbp psi 0.7: 3 images\ntrv psi 0.7: 3 images\n"
        assert open_bank(bank).spec.channels == 3

    def test_one_pattern_for_all_labels(self, fgaug: Any, tmp_path: Path) -> None:
        for label in ("dbp", "trv"):
            save(tmp_path / label / "psi=0.7_1_x.png", pixels(1))
            save(tmp_path / label / "cover.png", pixels(2))
        folders = [f"--folder={label}={tmp_path / label}" for label in ("dbp", "trv")]
        pattern = "--pattern=psi=0.7_{seed}_*.png"
        code, out, _ = fgaug("bank", "import", tmp_path / "b", *folders, "--psi=0.7", pattern)
        assert code == 0
        assert out.splitlines() == ["dbp psi 0.7: 1 images", "trv psi 0.7: 1 images"]

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--folder=images", "--psi=1"], "--folder must be LABEL=DIR, got images."),
            (["--folder=a/b=images", "--psi=1"], "A label must be a valid folder name"),
            (["--folder=a=b", "--folder=a=c", "--psi=1"], "--folder names `a` twice"),
            (["--folder=a=b", "--psi=0"], "--psi: `psi` 0 gives one image for every seed"),
            (["--folder=a=b", "--psi=nan"], "--psi: must be between 0.000001 and 1000, got nan"),
            (
                ["--folder=a=b", "--psi=1", "--pattern=x{seed}", "--pattern=y{seed}"],
                "--pattern is given twice for all labels: x{seed} and y{seed}.",
            ),
            (
                ["--folder=a=b", "--psi=1", "--pattern=a=x{seed}", "--pattern=a=y{seed}"],
                "--pattern is given twice for `a`: x{seed} and y{seed}.",
            ),
            (["--folder=a=none", "--psi=1"], "`a`: none is not a folder."),
        ],
    )
    def test_mistakes(
        self, fgaug: Any, tmp_path: Path, arguments: list[str], expected: str
    ) -> None:
        code, out, err = fgaug("bank", "import", tmp_path / "bank", *arguments)
        assert (code, out) == (2, "")
        assert expected in " ".join(err.split())
        assert not (tmp_path / "bank").exists()
