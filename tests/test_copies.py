"""Copies: found whatever was done to them, and kept from both sides of a split."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps

from fgaug.data import open_dataset
from fgaug.data.audit import audit, pairs_of, suspicions
from fgaug.data.copies import lookalikes
from fgaug.data.copies.lookalikes import ALIGNED, EXACT, NEAR, TURNED, find_alike
from fgaug.data.copies.rules import settle
from fgaug.data.prepare import prepare
from fgaug.errors import DataError

WIDTH, HEIGHT = 150, 120
BUSI = ("data", "prepare", "--size", 64, "--preset", "busi")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FGAUG_CACHE", str(tmp_path / "cache"))


def scan(seed: int) -> Image.Image:
    """Return tissue of its own: coarse structure under speckle."""
    draw = np.random.RandomState(seed)
    coarse = Image.fromarray(draw.randint(20, 220, (12, 15)).astype(np.uint8))
    tissue = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=float)
    speckle = tissue * (1 + 0.15 * draw.standard_normal((HEIGHT, WIDTH)))
    return Image.fromarray(np.clip(speckle, 0, 255).astype(np.uint8))


def recompressed(image: Image.Image) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=40)
    return Image.open(data)


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((5, 2, WIDTH - 2, HEIGHT - 5))


def marked(image: Image.Image) -> Image.Image:
    """Return the image with a caliper's cross, as a second screenshot has."""
    pixels = np.array(image)
    pixels[40:43, 60:72] = pixels[35:48, 65:67] = 255
    return Image.fromarray(pixels)


CHANGES = {
    "brighter": (lambda image: ImageEnhance.Brightness(image).enhance(1.15), NEAR),
    "contrast": (lambda image: ImageEnhance.Contrast(image).enhance(0.7), NEAR),
    "smaller": (lambda image: image.resize((90, 72), Image.Resampling.BILINEAR), NEAR),
    "recompressed": (recompressed, NEAR),
    "marked": (marked, ALIGNED),
    "cropped": (cropped, ALIGNED),
    "cropped, dark, recompressed": (
        lambda image: recompressed(ImageEnhance.Brightness(cropped(image)).enhance(0.8)),
        ALIGNED,
    ),
    "mirrored": (ImageOps.mirror, TURNED),
    "upside down": (ImageOps.flip, TURNED),
    "turned": (lambda image: image.rotate(90, expand=True), TURNED),
}


def squares(*pictures: Image.Image, side: int = 64) -> np.ndarray:
    return np.stack([np.asarray(each.resize((side, side)))[..., None] for each in pictures])


class TestFinding:
    """Which pairs are found, and that others are not."""

    @pytest.mark.parametrize("change", CHANGES)
    def test_a_changed_copy(self, change: str) -> None:
        make, kind = CHANGES[change]
        pictures = [scan(seed) for seed in range(12)]
        pictures.append(make(pictures[4]).convert("L"))
        names = [f"{number:064x}" for number in range(13)]
        found = find_alike([squares(*pictures)], names).pairs
        assert found[["one", "other", "kind"]].to_numpy().tolist() == [[4, 12, kind]]

    def test_equal_images_are_paired_with_the_first(self) -> None:
        pictures = squares(*(scan(seed) for seed in (1, 2, 1, 3, 1)))
        found = find_alike([pictures[:2], pictures[2:]], ["a", "b", "a", "c", "a"]).pairs
        assert found.to_numpy().tolist() == [[0, 2, EXACT, 1.0], [0, 4, EXACT, 1.0]]

    @pytest.mark.parametrize("side", [8, 24, 100])
    def test_other_sizes_and_colour(self, side: int) -> None:
        pictures = squares(*(scan(seed) for seed in range(6)), scan(2), side=side)
        colour = np.repeat(pictures, 3, axis=3)
        colour[..., 2] //= 2
        found = find_alike([colour], list("abcdefg")).pairs
        assert found[["one", "other"]].to_numpy().tolist() == [[2, 6]]

    def test_flat_images_are_like_none(self) -> None:
        flat = (
            np.full((3, 32, 32, 1), 9, np.uint8)
            + np.arange(0, 90, 30, np.uint8)[:, None, None, None]
        )
        assert find_alike([flat], ["a", "b", "c"]).pairs.empty

    def test_too_many_candidates_are_a_stated_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lookalikes, "_MOST_ALIGNED", 100)
        draw = np.random.RandomState(0)
        same = np.asarray(scan(1).resize((32, 32)), float)
        near = [same + 22 * draw.standard_normal((32, 32)) for _ in range(90)]
        pictures = np.clip(np.stack(near), 0, 255).astype(np.uint8)[..., None]
        found = find_alike([pictures], [str(number) for number in range(90)])
        (limit,) = found.limits
        assert (
            "the 100 most similar pairs; at least 3905 less similar ones were not aligned" in limit
        )


def set_of(*rows: tuple[str, str, object]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_id", "label", "group"])


def pairs(*rows: tuple[int, int, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["one", "other", "kind"]).assign(correlation=1.0)
    return frame.astype({"one": np.int64, "other": np.int64})


class TestRules:
    """What becomes of pairs."""

    TABLE = set_of(
        ("a", "x", 1),
        ("b", "x", 2),
        ("c", "y", 3),
        ("d", "y", 4),
        ("e", "x", 5),
        ("f", "x", 5),
        ("g", "y", 6),
    )

    def test_groups_are_joined_over_chains_and_patients(self) -> None:
        # b-e alike, e and f one patient, f-g alike; a and c equal under two labels
        found = pairs((0, 2, EXACT), (1, 4, NEAR), (5, 6, TURNED), (2, 3, NEAR))
        settled = settle(self.TABLE, found, "group")
        assert settled.kept.tolist() == [False, True, False, True, True, True, True]
        assert settled.table["group"].tolist() == [1, 2, 3, 4, 2, 2, 2]
        assert settled.done == ["left out: a, c", "one group", "one group", "left out: c"]
        assert settled.counts["left_out_contradictions"] == 2
        assert settled.counts["groups_before"] == 6
        assert settled.counts["groups"] == 2
        assert settled.counts["largest_group"] == 4

    def test_a_triple_with_one_other_label_goes_whole(self) -> None:
        found = pairs((0, 1, EXACT), (0, 2, EXACT))
        for rule in ("group", "drop"):
            assert settle(self.TABLE, found, rule).kept.tolist() == [False] * 3 + [True] * 4

    def test_drop_keeps_the_first_of_each(self) -> None:
        found = pairs((0, 1, EXACT), (2, 3, NEAR), (4, 5, NEAR), (2, 6, NEAR))
        settled = settle(self.TABLE, found, "drop")
        # e and f are one patient's: on one side whatever the split
        assert settled.kept.tolist() == [True, False, True, False, True, True, False]
        assert settled.table["group"].equals(self.TABLE["group"])
        assert settled.counts["left_out_copies"] == 3

    def test_drop_leaves_out_both_sides_of_a_near_contradiction(self) -> None:
        settled = settle(self.TABLE, pairs((1, 2, NEAR)), "drop")
        assert np.flatnonzero(~settled.kept).tolist() == [1, 2]

    def test_drop_keeps_what_is_not_alike_itself(self) -> None:
        """a ~ b ~ e: b goes as a copy of a, and e is a copy of none that is kept."""
        settled = settle(self.TABLE, pairs((0, 1, NEAR), (1, 4, NEAR)), "drop")
        assert np.flatnonzero(~settled.kept).tolist() == [1]

    def test_a_given_split(self) -> None:
        given = self.TABLE.assign(
            split=["train", "test", "train", "valid", "valid", "valid", "test"]
        )
        found = pairs((0, 1, EXACT), (2, 3, NEAR))
        assert np.flatnonzero(~settle(given, found, "drop").kept).tolist() == [0, 2]
        with pytest.raises(
            DataError, match="--copies group cannot move images between splits, and 2 groups"
        ):
            settle(given, found, "group")
        within = settle(given, pairs((3, 4, NEAR)), "group")
        assert within.table["group"].tolist() == [1, 2, 3, 4, 4, 4, 6]

    def test_the_copy_that_is_kept_has_the_gan_flag(self) -> None:
        flags = self.TABLE.assign(gan=[False, True, False, False, False, False, True])
        settled = settle(flags, pairs((0, 1, EXACT), (2, 3, NEAR)), "drop")
        assert np.flatnonzero(~settled.kept).tolist() == [0, 3]
        given = flags.assign(split=["test", "train", *["valid"] * 5])
        settled = settle(given, pairs((0, 1, EXACT)), "drop")
        assert np.flatnonzero(~settled.kept).tolist() == [1]
        assert settled.table["gan"].tolist()[0]

    @pytest.mark.parametrize("rule", ["drop", "group"])
    def test_nothing_is_left(self, rule: str) -> None:
        table = self.TABLE.head(2).assign(label=["a", "b"])
        with pytest.raises(DataError, match="leaves out all 2 images"):
            settle(table, pairs((0, 1, EXACT)), rule)

    @pytest.mark.parametrize("rule", ["refuse", "drop", "group"])
    def test_a_clean_set_is_left_as_it_is(self, rule: str) -> None:
        settled = settle(self.TABLE, pairs(), rule)
        assert settled.kept.all()
        assert settled.table.equals(self.TABLE)


# of (label, number): how it was made of another, and whether that has another label
PLANTED = {
    ("benign", 2): ("benign", 1, "same"),
    ("benign", 3): ("benign", 1, "same"),
    ("malignant", 4): ("benign", 4, "same"),
    ("normal", 5): ("malignant", 5, "same"),
    ("normal", 6): ("malignant", 5, "same"),
    ("benign", 8): ("benign", 7, "brighter"),
    ("benign", 9): ("benign", 8, "cropped"),
    ("malignant", 8): ("malignant", 7, "recompressed"),
    ("malignant", 10): ("malignant", 9, "cropped, dark, recompressed"),
    ("normal", 10): ("normal", 9, "mirrored"),
    ("normal", 12): ("benign", 12, "smaller"),
    ("malignant", 14): ("malignant", 13, "marked"),
}
CONTRADICTIONS = {
    "benign/benign (4)",
    "malignant/malignant (4)",
    "malignant/malignant (5)",
    "normal/normal (5)",
    "normal/normal (6)",
}


@pytest.fixture(scope="module")
def busi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of BUSI's nature: 3 x 18 images, their masks, and its faults."""
    root = tmp_path_factory.mktemp("a set") / "Dataset_BUSI_with_GT"
    made: dict[tuple[str, int], Image.Image] = {}
    for place, label in enumerate(("benign", "malignant", "normal")):
        for number in range(1, 19):
            image = scan(100 * place + number)
            if (label, number) in PLANTED:
                origin, of, how = PLANTED[label, number]
                image = made[origin, of]
                image = image if how == "same" else CHANGES[how][0](image).convert("L")
            made[label, number] = image
            (root / label).mkdir(parents=True, exist_ok=True)
            colour = image.convert("RGB") if number % 2 else image
            colour.save(root / label / f"{label} ({number}).png")
            blank = Image.new("1", image.size)
            blank.save(root / label / f"{label} ({number})_mask.png")
    blank.save(root / "benign" / "benign (7)_mask_1.png")
    return root


def planted() -> list[tuple[str, str]]:
    """Return the names of each planted pair."""
    return [
        (f"{origin}/{origin} ({of})", f"{label}/{label} ({number})")
        for (label, number), (origin, of, _) in PLANTED.items()
    ]


class TestBusi:
    """A set with BUSI's faults, in one command."""

    @pytest.mark.parametrize("shares", [(), ("--test", 0.2), ("--test", 0.2, "--valid", 0.25)])
    @pytest.mark.parametrize("seed", [19, 3])
    def test_one_command(
        self, busi: Path, tmp_path: Path, fgaug: Any, shares: tuple[object, ...], seed: int
    ) -> None:
        out = tmp_path / "d"
        given = (*BUSI, busi, "--out", out)
        code, said, err = fgaug(*given, "--seed", seed, *shares)
        assert code == 0, err
        plain = " ".join(err.split())
        assert "Copies (group): pairs found: " in plain
        assert (
            "5 images left out, 5 of them exact duplicates of an image under another label"
            in plain
        )
        assert "49 images of 40 groups" in said
        dataset = open_dataset(out)
        table = dataset.manifest.set_index("image_id")
        assert not CONTRADICTIONS & set(table.index)
        for one, other in planted():
            if one not in CONTRADICTIONS and other not in CONTRADICTIONS:
                assert table.loc[one, "group"] == table.loc[other, "group"]
                assert table.loc[one, "split"] == table.loc[other, "split"]
        assert (table.groupby("group")["split"].nunique() == 1).all()
        alike = pairs_of(dataset).pairs
        split = dataset.manifest["split"].to_numpy()
        assert (split[alike["one"]] == split[alike["other"]]).all()
        assert audit(dataset) == []
        labels, twice = suspicions(dataset)
        assert "1 pair of near-duplicate images under two labels" in labels
        assert "2 images duplicated within one split" in twice

    def test_what_was_done_is_kept(self, busi: Path, tmp_path: Path) -> None:
        dataset = prepare(out=tmp_path / "d", size=64, preset="busi", source=busi)
        counts = json.loads((tmp_path / "d" / "dataset.json").read_text())["source"]["copies"]
        assert counts["rule"] == "group"
        assert counts["pairs"][EXACT] == 5
        assert sum(counts["pairs"].values()) == 13  # 12 planted; 9 is near 7 over 8, too
        assert (counts["left_out_contradictions"], counts["left_out_copies"]) == (5, 0)
        done = pd.read_csv(tmp_path / "d" / "copies.csv", keep_default_na=False)
        names = set(zip(done["one_image_id"], done["other_image_id"], strict=True))
        assert {tuple(sorted(pair)) for pair in planted()} <= {tuple(sorted(n)) for n in names}
        assert (done.loc[done["one_image_id"].isin(CONTRADICTIONS), "one_split"] == "").all()
        assert open_dataset(tmp_path / "d").spec == dataset.spec

    def test_refusing_names_the_ways_on(self, busi: Path, tmp_path: Path, fgaug: Any) -> None:
        given = (*BUSI, busi, "--out", tmp_path / "d")
        code, _, err = fgaug(*given, "--copies", "refuse", "--pairs", tmp_path / "seen")
        assert code == 2
        assert not (tmp_path / "d").exists()
        for way in ("--copies group", "--copies drop", "--drop FILE", f"see {tmp_path}"):
            assert way in err
        assert len(pd.read_csv(tmp_path / "seen" / "pairs.csv")) == 13
        code, _, err = fgaug(*given, "--copies", "refuse")
        assert "--pairs FOLDER shows every pair side by side" in err
        code, _, err = fgaug(*given, "--copies", "groups")
        assert code == 2
        assert 'did you mean "group"?' in err

    def test_dropping(self, busi: Path, tmp_path: Path, fgaug: Any) -> None:
        given = (*BUSI, busi, "--out", tmp_path / "d")
        code, _, err = fgaug(*given, "--copies", "drop", "--test", 0.2)
        assert code == 0, err
        dataset = open_dataset(tmp_path / "d")
        ids = set(dataset.manifest["image_id"])
        assert pairs_of(dataset).pairs.empty
        assert not CONTRADICTIONS & ids
        assert not {"benign/benign (12)", "normal/normal (12)"} & ids, "near, under two labels"
        assert {"benign/benign (1)", "benign/benign (7)", "malignant/malignant (13)"} <= ids
        assert not {"benign/benign (2)", "benign/benign (3)", "malignant/malignant (8)"} & ids

    def test_a_list_of_ones_own(self, busi: Path, tmp_path: Path, fgaug: Any) -> None:
        names = ["# equal to others", *sorted(CONTRADICTIONS), "benign (2).png", "benign (3)"]
        (tmp_path / "out.txt").write_text("\n".join([*names, ""]))
        given = (*BUSI, busi, "--out", tmp_path / "d")
        code, said, err = fgaug(*given, "--copies", "refuse", "--drop", tmp_path / "out.txt")
        assert code == 0, err
        assert "--drop: excluded 7 images" in " ".join(err.split())
        assert "47 images of 47 groups" in said
        source = open_dataset(tmp_path / "d").spec.source
        assert source["dropped"] == {"list": "out.txt", "images": 7}
        assert "copies" not in source

    def test_the_audit_shows_every_pair(self, busi: Path, tmp_path: Path, fgaug: Any) -> None:
        prepare(out=tmp_path / "d", size=64, preset="busi", source=busi, test=0.3)
        (tmp_path / "seen").mkdir()
        (tmp_path / "seen" / "pairs-7.html").write_text("of an earlier audit")
        code, said, err = fgaug("data", "audit", tmp_path / "d", "--out", tmp_path / "seen")
        assert code == 0, err
        alike = pairs_of(open_dataset(tmp_path / "d")).pairs
        assert f"{len(alike)} near-duplicate pairs: " in said
        assert sorted(p.name for p in (tmp_path / "seen").iterdir()) == ["pairs.csv", "pairs.html"]
        table = pd.read_csv(tmp_path / "seen" / "pairs.csv", keep_default_na=False)
        assert len(table) == len(alike)
        assert table["labels_differ"].tolist()[0], "the gravest pair comes first"
        assert not table["across_split"].any()
        page = (tmp_path / "seen" / "pairs.html").read_text()
        assert page.count("<figure") == len(alike)
        assert page.count("data:image/png;base64,") == 2 * len(alike)
        assert "http" not in page
        sealed = table["one_split"] == "test"
        assert sealed.any()
        assert (table.loc[sealed, "one_label"] == "sealed").all()
        assert (table.loc[~sealed, "one_label"] != "sealed").all()
        (tmp_path / "file").write_text("x")
        code, _, err = fgaug("data", "audit", tmp_path / "d", "--out", tmp_path / "file")
        assert code == 2
        assert "Give a folder" in err


def table_of(root: Path, *names: str, **columns: list[object]) -> dict[str, Any]:
    """Return the arguments of `prepare` for scans of these names, numbered by their first seed."""
    (root / "i").mkdir()
    for seed, name in enumerate(names):
        scan(seed).save(root / "i" / name)
    rows = {"image": list(names), "label": ["x", "y"] * (len(names) // 2), **columns}
    pd.DataFrame(rows).to_csv(root / "L.csv", index=False)
    return {"csv": root / "L.csv", "images": root / "i", "size": 32, "out": root / "d"}


class TestLists:
    """--drop: names, tables and lists by content."""

    NAMES = tuple(f"s{number}.png" for number in range(12))

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            ("a.txt", "s3\ns3.png\ns4.png\n\n# s5\n"),
            ("a.csv", "image_id,why\ns3,blurred\ns4,doubt\n"),
            ("a.csv", "why;Image\nblurred;s3.png\ndoubt;s4.png\n"),
            ("a.tsv", "file\twhy\ns3.png\t\ns4.png\t\n"),
            ("no suffix", "\ufeffs3.png\r\ns4.png"),
        ],
    )
    def test_forms(self, tmp_path: Path, file: str, text: str) -> None:
        given = table_of(tmp_path, *self.NAMES)
        (tmp_path / file).write_text(text, encoding="utf-8")
        dataset = prepare(**given, drop=tmp_path / file)
        assert set(dataset.manifest["image_id"]) == {
            f"s{number}" for number in range(12) if number not in (3, 4)
        }
        assert dataset.spec.source["dropped"] == {"list": file, "images": 2}

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("s3\ns33\n", 'there is no image "s33", did you mean "s3'),
            ("scan.png\nq\n", "2 problems"),
            ("\n# nothing\n", "names no image"),
            ("kind,correlation,one_image_id\nexact,1.0,q\n", "is a table of pairs"),
        ],
    )
    def test_refusals(self, tmp_path: Path, text: str, reason: str) -> None:
        given = table_of(tmp_path, *self.NAMES)
        (tmp_path / "a.txt").write_text(text)
        with pytest.raises(DataError, match=re.escape(reason)):
            prepare(**given, drop=tmp_path / "a.txt")
        with pytest.raises(DataError, match="is not a file"):
            prepare(**given, drop=tmp_path / "none.txt")
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\xd8")
        with pytest.raises(DataError, match="not UTF-8 text"):
            prepare(**given, drop=tmp_path / "binary")
        assert not (tmp_path / "d").exists()

    def test_the_list_of_gan_filter(self, tmp_path: Path) -> None:
        given = table_of(tmp_path, *self.NAMES)
        whole = prepare(**given)
        rows = whole.manifest.iloc[[2, 5]]
        images = [
            {"image_id": i, "sha256": s, "label": label, "reasons": {"thin": -3.0}}
            for i, s, label in zip(rows["image_id"], rows["sha256"], rows["label"], strict=True)
        ]
        drops = {
            "schema_version": 1,
            "dataset_digest": whole.spec.digest,
            "split": "dataset",
            "rules": {},
            "considered": {"x": 6, "y": 6},
            "images": images,
        }
        (tmp_path / "drops.json").write_text(json.dumps(drops))
        less = prepare(**{**given, "out": tmp_path / "less"}, drop=tmp_path / "drops.json")
        assert len(less) == 10
        assert not set(less.manifest["sha256"]) & set(rows["sha256"])
        assert less.spec.source["dropped"]["images"] == 2
        images[0]["sha256"] = "0" * 64
        (tmp_path / "drops.json").write_text(json.dumps(drops))
        with pytest.raises(
            DataError, match="names 1 image that the dataset does not contain, of 2"
        ):
            prepare(**{**given, "out": tmp_path / "none"}, drop=tmp_path / "drops.json")

    def test_names_that_are_hostile_in_a_page(self, tmp_path: Path) -> None:
        names = ['<img src=x onerror="alert(1)">.png', "b&b.png", *self.NAMES]
        given = table_of(tmp_path, *names)
        scan(0).save(tmp_path / "i" / "b&b.png")
        scan(0).save(tmp_path / "i" / "s0.png")
        pd.DataFrame({"image": names, "label": ["<b>x", "y"] * 7}).to_csv(
            given["csv"], index=False
        )
        prepare(**given, copies="group", pairs=tmp_path / "seen")
        page = (tmp_path / "seen" / "pairs.html").read_text()
        assert "<img src=x" not in page
        assert "<b>x" not in page
        assert "&lt;img src=x onerror=&quot;" in page


class TestGivenSplits:
    """A split of the user's own is never moved."""

    def given(self, root: Path) -> dict[str, Any]:
        split = ["train"] * 6 + ["valid"] * 4 + ["test"] * 2
        given = table_of(root, *TestLists.NAMES, split=split)
        scan(0).save(root / "i" / "s10.png")  # of the label of s0
        ImageEnhance.Brightness(scan(3)).enhance(1.1).save(root / "i" / "s7.png")
        return {**given, "split_col": "split"}

    def test_group_is_refused_where_it_would_move_images(self, tmp_path: Path) -> None:
        with pytest.raises(
            DataError, match=r"cannot move images between splits, and 2 groups .*: s0, s3\. Use"
        ):
            prepare(**self.given(tmp_path), copies="group")
        assert not (tmp_path / "d").exists()

    def test_drop_takes_copies_from_the_training_set(self, tmp_path: Path) -> None:
        dataset = prepare(**self.given(tmp_path), copies="drop")
        ids = set(dataset.manifest["image_id"])
        assert {"s10", "s7"} <= ids
        assert not {"s0", "s3"} & ids
        assert dataset.spec.source["copies"]["left_out_copies"] == 2


def test_a_group_of_many_is_remarked_upon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"s{number:02d}.png" for number in range(60)]
    given = table_of(tmp_path, *names)
    for number in range(0, 50, 2):  # of one label
        scan(0).save(tmp_path / "i" / f"s{number:02d}.png")
    prepare(**given, copies="group", valid=0.4)
    assert "One group holds more than a tenth of the images" in caplog.text


def test_clean_sets_are_the_same_under_every_rule(tmp_path: Path) -> None:
    given = table_of(tmp_path, *TestLists.NAMES, patient=[number // 2 for number in range(12)])
    digests = set()
    for rule in (None, "refuse", "drop", "group"):
        out = {**given, "out": tmp_path / str(rule), "group_col": "patient"}
        digests.add(prepare(**out, copies=rule).spec.digest)
    assert len(digests) == 1
    assert not (tmp_path / "None" / "copies.csv").exists()
    assert "copies" not in open_dataset(tmp_path / "None").spec.source
