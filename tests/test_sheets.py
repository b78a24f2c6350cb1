"""Contact sheets: the images are the bank's or the dataset's, each where its captions say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_bank import bank_command, fill_stub, small_bank

from fgaug.bank import Bank
from fgaug.cli import options
from fgaug.core import contact_sheet
from fgaug.core.contact_sheet import Block
from fgaug.data import Dataset, open_dataset
from fgaug.data.prepare import prepare
from fgaug.errors import BankError, DataError, UserError


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return small_bank(tmp_path_factory.mktemp("bank") / "bank")


@pytest.fixture(scope="module")
def root(bank: Bank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "bank0" / "bank"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("real") / "heads"
    prepare(out=folder, size=32, preset="phantom", phantom={"images": 60}, test=0.2)
    return open_dataset(folder)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return np.asarray(sheet)


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    large = np.kron(image, np.ones((factor, factor, 1), np.uint8))
    return large[:, :, 0] if large.shape[2] == 1 else large


def places(sheet: np.ndarray, tile: np.ndarray) -> list[tuple[int, int]]:
    """Return (top, left) of every place where the sheet shows exactly this tile."""
    height, width = tile.shape[:2]
    top = sheet[: sheet.shape[0] - height + 1, : sheet.shape[1] - width + 1]
    same = top == tile[0, 0]
    candidates = np.argwhere(same if same.ndim == 2 else same.all(axis=2))
    return [
        (int(y), int(x))
        for y, x in candidates
        if (sheet[y : y + height, x : x + width] == tile).all()
    ]


class TestBankSheet:
    def test_a_row_for_each_z_seed_and_a_column_for_each_psi(
        self, bank: Bank, root: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "new folder" / "s.png"
        bank_command("sheet", root, "--out", out)
        sheet = pixels(out)
        assert sheet.ndim == 2  # grey stays grey
        lefts: dict[float, set[int]] = {0.5: set(), 1.0: set()}
        tops = []
        for z_seed in range(1, 9):
            rows = set()
            for psi, columns in lefts.items():
                found = places(sheet, enlarged(bank.read("dbp", psi, [z_seed])[0], 4))
                assert len(found) == 2  # a stub draws both labels alike, one block each
                rows |= {y for y, _ in found}
                columns |= {x for _, x in found}
            assert len(rows) == 1
            tops += rows
        assert tops == sorted(tops)
        assert len(lefts[0.5]) == len(lefts[1.0]) == 2
        assert min(lefts[0.5]) < min(lefts[1.0]) < max(lefts[0.5]) < max(lefts[1.0])
        assert not places(sheet, enlarged(bank.read("dbp", 1.0, [9])[0], 4))

    def test_what_was_named_in_the_order_named(
        self, bank: Bank, root: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "s.png"
        only = ["--label", "trv", "--psi", "1,0.5", "--psi", "1.0", "--seeds", "20,3-4,20"]
        bank_command("sheet", root, "--out", out, *only)
        sheet = pixels(out)
        shown = {
            (z_seed, psi): places(sheet, enlarged(bank.read("trv", psi, [z_seed])[0], 4))
            for z_seed in range(1, 21)
            for psi in (0.5, 1.0)
        }
        found = {key: at[0] for key, at in shown.items() if at}
        assert set(found) == {(z, psi) for z in (20, 3, 4) for psi in (0.5, 1.0)}
        assert found[20, 1.0] < found[20, 0.5] < found[3, 1.0] < found[4, 1.0]
        assert all(len(at) <= 1 for at in shown.values())

    def test_squares(self, bank: Bank, root: Path, tmp_path: Path) -> None:
        out = tmp_path / "s.png"
        bank_command("sheet", root, "--out", out, "--grid", 3, "--label", "dbp")
        sheet = pixels(out)
        for psi in (0.5, 1.0):
            at = [
                places(sheet, enlarged(image, 4))[0]
                for image in bank.read("dbp", psi, range(1, 10))
            ]
            assert at == sorted(at)
            assert len({y for y, _ in at}) == len({x for _, x in at}) == 3
        bank_command("sheet", root, "--out", out, "--grid", 2, "--seeds", "7,5,3,1")
        assert places(pixels(out), enlarged(bank.read("dbp", 1.0, [7])[0], 4))

    def test_colour(self, tmp_path: Path) -> None:
        made = small_bank(tmp_path / "b", labels=["a"], psis=[1.0], size=40, channels=3)
        bank_command("sheet", tmp_path / "b", "--out", tmp_path / "s.png", "--seeds", "2")
        sheet = pixels(tmp_path / "s.png")
        assert sheet.shape[2] == 3
        assert len(places(sheet, enlarged(made.read("a", 1.0, [2])[0], 2))) == 1

    def test_same_content_same_bytes(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        bank_command("sheet", root)
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "sheet.png")
        bank_command("sheet", root, "--out", "again.png", "--seeds", "1-8", "--psi", "0.5,1")
        assert Path("sheet.png").read_bytes() == Path("again.png").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["again.png", "sheet.png"]

    def test_what_all_labels_and_psis_hold_is_shown(self, tmp_path: Path) -> None:
        uneven = [("a", 0.5, [1, 2, 3, 9]), ("a", 1.0, [2, 9, 11]), ("b", 1.0, [9, 2, 12])]
        parts = [(label, psi, np.array(z_seeds)) for label, psi, z_seeds in uneven]
        made = fill_stub(tmp_path / "b", parts)
        out = tmp_path / "s.png"
        bank_command("sheet", tmp_path / "b", "--out", out)  # psi 1, z_seeds 2 and 9
        sheet = pixels(out)
        assert len(places(sheet, enlarged(made.read("a", 1.0, [9])[0], 4))) == 2
        assert not places(sheet, enlarged(made.read("a", 1.0, [11])[0], 4))
        assert not places(sheet, enlarged(made.read("a", 0.5, [2])[0], 4))
        with pytest.raises(BankError, match="4 z_seeds common to all of them, but the bank has 2"):
            bank_command("sheet", tmp_path / "b", "--out", out, "--grid", 2)
        with pytest.raises(BankError, match=r"no b at psi 0\.5; the bank has psi 1"):
            bank_command("sheet", tmp_path / "b", "--out", out, "--psi", "0.5")

    def test_nothing_in_common(self, tmp_path: Path) -> None:
        parts = [("a", 0.5, np.array([1])), ("b", 1.0, np.array([1])), ("b", 0.7, np.array([2]))]
        fill_stub(tmp_path / "b", parts)
        with pytest.raises(BankError, match="no psi in common for a, b"):
            bank_command("sheet", tmp_path / "b", "--out", tmp_path / "s.png")
        with pytest.raises(
            BankError, match="needs 1 z_seeds common to all of them, but the bank has"
        ):
            bank_command("sheet", tmp_path / "b", "--out", tmp_path / "s.png", "--label", "b")

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            (["--label", "dpb"], "no label `dpb`; the bank has dbp, trv"),
            (["--psi", "0.7"], r"no dbp at psi 0\.7; the bank has psi 0\.5, 1(?s:.)*no trv at"),
            (["--seeds", "19-22"], r"2 of 4 z_seeds of dbp at psi 0\.5 are missing .*first is 21"),
            (["--psi", "x"], "a number or a list, as 0.3,0.5,1, got x"),
            (["--psi", "0.5,"], "got none"),
            (["--psi", "0"], "one image for every seed"),
            (["--seeds", "1,,2"], "a range or a list"),
            (["--grid", "0"], "--grid must be at least 1, got 0"),
            (["--grid", "5"], "needs 25 z_seeds common to all of them, but the bank has 20"),
            (["--grid", "2", "--seeds", "1-5"], "--grid 2 needs 4 z_seeds, but --seeds gives 5"),
            (["--out", "s.jpg"], "must end in .png, got s.jpg"),
        ],
    )
    def test_refusals(self, root: Path, tmp_path: Path, asked: list[str], words: str) -> None:
        with pytest.raises(UserError, match=words):
            bank_command("sheet", root, "--out", tmp_path / "s.png", *asked)
        assert not list(tmp_path.iterdir())

    def test_a_folder_of_that_name(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "s.png").mkdir()
        with pytest.raises(UserError, match=r"s\.png is a folder"):
            bank_command("sheet", root, "--out", tmp_path / "s.png")


class TestDrawing:
    def block(self, *columns: str, heading: str = "h", images: Any = None) -> Block:
        one = np.zeros((len(columns), 64, 64, 1), np.uint8)
        return Block(
            heading=heading, rows=("",), columns=columns, images=images or (lambda: [one])
        )

    def test_too_large_is_said_before_an_image_is_read(self) -> None:
        def images() -> list[np.ndarray]:
            raise AssertionError

        block = Block(heading="h", rows=("",) * 200, columns=("",) * 200, images=images)
        with pytest.raises(UserError, match=r"most 80 million.*13230 x 13250 \(175 million\).*-x"):
            contact_sheet.draw([[block]], 64, 1, "--x")

    def test_long_captions_do_not_run_into_each_other(self) -> None:
        short = contact_sheet.draw([[self.block("psi 0.5", "psi 0.7")]], 64, 1, "")
        long = contact_sheet.draw([[self.block("psi 0.5", "psi 0.70000000001")]], 64, 1, "")
        assert long.width > short.width
        heading = contact_sheet.draw([[self.block("", heading="h" * 100)] * 2], 64, 1, "")
        ink = np.asarray(heading)[16:36].min(axis=0) < 128
        gaps = np.diff(np.flatnonzero(ink))
        assert (gaps > 14).sum() == 1

    @pytest.mark.parametrize("text", ["fötus", "Ψ ж"])
    def test_letters_beyond_ascii(self, text: str) -> None:
        drawn = {
            contact_sheet.draw([[self.block("", heading=heading)]], 64, 1, "").tobytes()
            for heading in (text, text.replace("ö", "ü").replace("ж", "ш"))
        }
        assert len(drawn) == 2  # one box for whatever is unknown would make them equal

    def test_wrapping(self) -> None:
        blocks = [self.block(*[""] * n) for n in (8, 8, 1, 40, 2)]
        lines = [[len(block.columns) for block in line] for line in contact_sheet.wrapped(blocks)]
        assert lines == [[8, 8], [1], [40], [2]]


class TestDataSheet:
    def shown(self, dataset: Dataset, path: Path) -> dict[int, tuple[int, int]]:
        """Return where each image of the dataset is shown, by its row of the manifest."""
        sheet = pixels(path)
        at = [places(sheet, enlarged(image, 2)) for image in dataset.pixels()]
        assert all(len(found) <= 1 for found in at)
        return {row: found[0] for row, found in enumerate(at) if found}

    @pytest.mark.parametrize("split", ["train", "valid"])
    def test_a_row_for_each_label(
        self, fgaug: Any, dataset: Dataset, tmp_path: Path, split: str
    ) -> None:
        out = tmp_path / "s.png"
        asked = ["--split", split] if split == "valid" else []
        code, text, err = fgaug("data", "sheet", dataset.root, "--out", out, *asked)
        assert (code, text) == (0, f"{out}\n"), err
        shown = self.shown(dataset, out)
        table = dataset.manifest.assign(row=range(len(dataset)))
        tops = []
        for label in dataset.spec.labels:
            held = table[(table["split"] == split) & (table["label"] == label)]["row"]
            here = [shown.pop(row) for row in held if row in shown]
            assert len(here) == min(8, len(held))
            assert len({y for y, _ in here}) == 1
            tops.append(here[0][0])
        assert tops == sorted(tops)
        assert not shown  # nothing of another split

    def test_the_draw_is_seeded(self, fgaug: Any, dataset: Dataset, tmp_path: Path) -> None:
        def drawn(*asked: object) -> tuple[bytes, list[int]]:
            out = tmp_path / "s.png"
            assert fgaug("data", "sheet", dataset.root, "--out", out, *asked)[0] == 0
            return out.read_bytes(), list(self.shown(dataset, out))

        assert drawn("--per-label", 3)[0] == drawn("--per-label", 3, "--rng", 0)[0]
        assert drawn("--per-label", 3)[1] != drawn("--per-label", 3, "--rng", 1)[1]
        assert set(drawn("--per-label", 3)[1]) < set(drawn("--per-label", 5)[1])
        train = int((dataset.manifest["split"] == "train").sum())
        assert len(drawn("--per-label", 1000)[1]) == train

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            (["--split", "test"], "the test set is sealed"),
            (["--split", "all"], "--split must be train or valid, got all"),
            (["--per-label", 0], "--per-label must be at least 1, got 0"),
            (["--rng", -1], "--rng must be 0 or more, got -1"),
        ],
    )
    def test_refusals(
        self, fgaug: Any, dataset: Dataset, tmp_path: Path, asked: list[object], words: str
    ) -> None:
        out = tmp_path / "s.png"
        code, _, err = fgaug("data", "sheet", dataset.root, "--out", out, *asked)
        assert code == DataError.exit_code
        assert words in err
        assert not out.exists()


class TestOptions:
    def test_psis(self) -> None:
        assert options.psis(["0.3, 1", "0.5", "1.0"]) == [0.3, 1.0, 0.5]
        assert options.psis([]) == []

    def test_z_seeds(self) -> None:
        assert options.z_seeds("3, 1-2 ,7") == [3, 1, 2, 7]
        for text in ("", "3-1", "-1", "1-4000000000", "4294967296", "a"):
            with pytest.raises(BankError, match="--seeds"):
                options.z_seeds(text)
