"""Exports: every image comes out as it is in the bank, and a broken-off export is not valid."""

from __future__ import annotations

import errno
import gc
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_bank import bank_command, fill_stub, small_bank

from fgaug.bank import Bank, Demand, Scorer, export, open_bank, open_store
from fgaug.bank.score_columns import columns_of
from fgaug.bank.scores import write_scores
from fgaug.errors import BankError, DiskFullError, UserError


def decoded(file: Path | io.BytesIO, mode: str) -> np.ndarray:
    with Image.open(file) as image:
        assert (image.format, image.mode) == ("PNG", mode)
        array = np.asarray(image)
    return array[..., None] if mode == "L" else array


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export") / "bank"


@pytest.fixture(scope="module")
def bank(place: Path) -> Bank:
    return small_bank(place)


def table_of(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted((folder / "data").iterdir())])


class TestPng:
    def test_every_image(self, bank: Bank, place: Path, odd_root: Path, capsys: Any) -> None:
        out = odd_root / "png"
        bank_command("export", place, "--to", "png", "--out", out)
        text = capsys.readouterr()
        assert text.out == f"{out}\n"
        assert text.err == "exported 80 images\n"
        index = pd.read_csv(out / "index.csv")
        assert list(index.columns) == ["file", "label", "psi", "z_seed"]
        assert index[["label", "psi", "z_seed"]].to_numpy().tolist() == [
            [label, psi, z_seed]
            for label in ("dbp", "trv")
            for psi in (0.5, 1.0)
            for z_seed in range(1, 21)
        ]
        for file, label, psi, z_seed in index.itertuples(index=False):
            assert (decoded(out / file, "L") == bank.read(label, psi, [z_seed])[0]).all()
        assert {
            path.relative_to(out).as_posix() for path in out.rglob("*.*") if path.is_file()
        } == {
            *index["file"],
            "index.csv",
            "metadata.csv",
        }
        metadata = pd.read_csv(out / "metadata.csv").rename(columns={"file_name": "file"})
        pd.testing.assert_frame_equal(metadata, index)
        assert (out / "trv" / "psi_1" / "seed0020.png").is_file()

    def test_colour_and_long_seeds(self, tmp_path: Path) -> None:
        z_seeds = [7, 12345, 4294967295]
        made = fill_stub(tmp_path / "b", [("a", 0.1234567, np.array(z_seeds))], 8, 3)
        bank_command("export", tmp_path / "b", "--to", "png", "--out", tmp_path / "o")
        folder = tmp_path / "o" / "a" / "psi_0.1234567"
        assert sorted(path.name for path in folder.iterdir()) == [
            "seed0007.png",
            "seed12345.png",
            "seed4294967295.png",
        ]
        image = decoded(folder / "seed12345.png", "RGB")
        assert (image == made.read("a", 0.1234567, [12345])[0]).all()

    def test_what_was_named(self, bank: Bank, place: Path, tmp_path: Path) -> None:
        only = ["--label", "trv", "--psi", "1", "--seeds", "9,3-4,3"]
        bank_command("export", place, "--to", "png", "--out", tmp_path / "o", *only)
        assert pd.read_csv(tmp_path / "o" / "index.csv")["file"].tolist() == [
            f"trv/psi_1/seed000{z_seed}.png" for z_seed in (3, 4, 9)
        ]

    @pytest.mark.filterwarnings("ignore::ResourceWarning")  # see the end
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_readers_of_class_folders_find_labels_and_the_table(
        self, bank: Bank, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        import datasets
        from torchvision.datasets import ImageFolder

        out = tmp_path / "png"
        bank_command("export", place, "--to", "png", "--out", out, "--seeds", "1-3")
        folder = ImageFolder(out)
        assert folder.classes == ["dbp", "trv"]
        assert [label for _, label in folder.samples] == [0] * 6 + [1] * 6
        rows = datasets.load_dataset(
            "imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache")
        )["train"]
        told = sorted((row["label"], row["psi"], row["z_seed"]) for row in rows)
        assert told == [(a, p, z) for a in ("dbp", "trv") for p in (0.5, 1.0) for z in (1, 2, 3)]
        del rows
        gc.collect()  # `datasets` leaves metadata.csv open: warned of here, not in a later test


def score(place: Path, digest: str) -> None:
    """Write made-up scores: dbp agrees at odd z_seeds, trv at those of three and more."""
    store = open_store(str(place))
    scorer = Scorer("classifier", digest, columns_of("classifier"), f"by {digest[:1]}")
    seeds = np.arange(1, 21)
    for label in ("dbp", "trv"):
        agrees = seeds % 2 == 1 if label == "dbp" else seeds >= 3
        frame = pd.DataFrame({"z_seed": seeds, "agrees": agrees})
        frame = frame.assign(confidence=seeds / 20, margin=0.5)
        for psi in (0.5, 1.0):
            write_scores(store, scorer, label, psi, frame)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scored") / "bank"
    small_bank(place)
    score(place, "a" * 64)
    return place


class TestFilter:
    @pytest.mark.parametrize(
        ("words", "dbp", "trv"),
        [
            ("agrees", [*range(1, 21, 2)], [*range(3, 21)]),
            ("not agrees", [*range(2, 21, 2)], [1, 2]),
            ("agrees and confidence >= 0.8", [17, 19], [16, 17, 18, 19, 20]),
            ("none", [*range(1, 21)], [*range(1, 21)]),
        ],
    )
    def test_an_export_holds_what_passes(
        self, words: str, dbp: list[int], trv: list[int], scored: Path, tmp_path: Path, capsys: Any
    ) -> None:
        only = ("--psi", "0.5", "--filter", words)
        bank_command("export", scored, "--to", "png", "--out", tmp_path / "o", *only)
        index = pd.read_csv(tmp_path / "o" / "index.csv")
        for label, z_seeds in (("dbp", dbp), ("trv", trv)):
            assert index.loc[index["label"].eq(label), "z_seed"].tolist() == z_seeds
        kept = len(dbp) + len(trv)
        assert f"{kept} of 40 fakes kept, {40 - kept} removed" in capsys.readouterr().err

    def test_a_sheet_shows_what_passes_everywhere(
        self, scored: Path, tmp_path: Path, capsys: Any
    ) -> None:
        bank_command("sheet", scored, "--filter", "agrees", "--out", tmp_path / "s.png")
        assert "of 80 fakes kept" in capsys.readouterr().err
        assert (tmp_path / "s.png").is_file()
        with pytest.raises(UserError, match="1 of the 2 z_seeds in --seeds fail --filter"):
            bank_command(
                "sheet",
                scored,
                "--filter",
                "agrees",
                "--seeds",
                "4,5",
                "--out",
                tmp_path / "t.png",
            )
        assert not (tmp_path / "t.png").exists()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("realism>=1", r"has no `features` scores.*fgaug bank score .* --scorer features"),
            ("confidence > 2", "keeps none of the 80 fakes"),
            ("agree", "agrees"),
            ("agrees and", "expected"),
        ],
    )
    def test_what_cannot_be_told_is_refused(
        self, words: str, said: str, scored: Path, tmp_path: Path
    ) -> None:
        for to in ("png", "hf"):
            with pytest.raises(UserError, match=said):
                bank_command(
                    "export", scored, "--to", to, "--out", tmp_path / to, "--filter", words
                )
            assert not (tmp_path / to).exists()

    def test_of_two_scorers_one_is_named(self, tmp_path: Path) -> None:
        small_bank(tmp_path / "bank")
        for digest in ("a" * 64, "b" * 64):
            score(tmp_path / "bank", digest)
        given = ("export", tmp_path / "bank", "--to", "png", "--out", tmp_path / "o")
        with pytest.raises(UserError, match=r"from 2 scorers: .*Choose one with --scorer"):
            bank_command(*given, "--filter", "agrees")
        bank_command(*given, "--filter", "agrees", "--scorer", f"classifier-{'b' * 12}")
        assert len(pd.read_csv(tmp_path / "o" / "index.csv")) == 2 * (10 + 18)

    def test_scores_without_a_filter_are_not_ignored(self, tmp_path: Path) -> None:
        small_bank(tmp_path / "bank")
        for command in (
            ("export", tmp_path / "bank", "--to", "png"),
            ("sheet", tmp_path / "bank"),
        ):
            with pytest.raises(UserError, match="--scorer chooses the scores that --filter reads"):
                bank_command(*command, "--out", tmp_path / "o.png", "--scorer", "classifier")
        assert not (tmp_path / "o.png").exists()


class TestSelected:
    """Folders of selected images, as the breast study trains on them."""

    def test_a_folder_per_label_with_the_filter_in_its_index(
        self, scored: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "selected"
        bank_command(
            "export",
            scored,
            "--to",
            "bmp",
            "--layout",
            "label",
            "--psi",
            "0.5",
            "--filter",
            "agrees and confidence>0.2",
            "--count",
            "6",
            "--out",
            out,
        )
        assert sorted(path.name for path in out.iterdir()) == [
            "dbp",
            "index.csv",
            "metadata.csv",
            "trv",
        ]
        for label, z_seeds in (("dbp", range(5, 16, 2)), ("trv", range(5, 11))):
            names = [f"seed{z_seed:04d}.bmp" for z_seed in z_seeds]
            assert sorted(path.name for path in (out / label).iterdir()) == names
            for name, z_seed in zip(names, z_seeds, strict=True):
                with Image.open(out / label / name) as image:
                    assert image.format == "BMP"
                    wanted = open_bank(scored).read(label, 0.5, [z_seed])[0, ..., 0]
                    assert (np.asarray(image) == wanted).all()
        for table in ("index.csv", "metadata.csv"):
            rows = pd.read_csv(out / table)
            assert set(rows["filter"]) == {"agrees and confidence>0.2"}
            assert set(rows["scorers"]) == {f"classifier-{'a' * 12}"}

    def test_each_label_at_a_psi_of_its_own(self, scored: Path, tmp_path: Path) -> None:
        out = tmp_path / "own"
        bank_command(
            *("export", scored, "--to", "png", "--layout", "label", "--out", out),
            *("--psi", "dbp=0.5,trv=1", "--count", "2"),
        )
        rows = pd.read_csv(out / "index.csv").groupby("label")["psi"].unique()
        assert {label: psis.tolist() for label, psis in rows.items()} == {"dbp": [0.5], "trv": [1]}

    def test_a_card_names_the_filter(self, scored: Path, tmp_path: Path) -> None:
        out = tmp_path / "hf"
        bank_command("export", scored, "--to", "hf", "--filter", "agrees", "--out", out)
        card = (out / "README.md").read_text(encoding="utf-8")
        assert f"pass `agrees`, by the scores classifier-{'a' * 12}." in card
        assert pq.read_table(out / "data").num_rows == 2 * (10 + 18)

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            (("--layout", "label"), r"dbp has psi 0\.5, 1\. Choose one with --psi"),
            (("--psi", "dbp=0.5,1"), "--psi must name the label of each psi or of none, got 1"),
            (("--psi", "dbp=0.5", "--label", "dbp"), "--psi names the labels already"),
            (("--psi", "dbp=x"), "--psi must be a number or a list"),
            (("--psi", "xyz=0.5"), "no label `xyz`"),
            (("--layout", "flat"), "--layout must be psi or label, got flat"),
            (("--to", "hf", "--layout", "label"), "Omit it with --to hf"),
            (("--count", "0"), "--count must be at least 1, got 0"),
            (("--filter", "agrees", "--count", "11"), r"dbp at psi 0\.5 has 10; dbp at psi 1 has"),
            (
                ("--filter", "not agrees and confidence<0.11", "--psi", "1", "--count", "2"),
                "dbp at psi 1 has 1",
            ),
            (
                ("--filter", "agrees and confidence<0.11", "--psi", "1", "--count", "1"),
                "trv at psi 1 has 0",
            ),
        ],
    )
    def test_mistakes(
        self, scored: Path, tmp_path: Path, asked: tuple[str, ...], said: str
    ) -> None:
        with pytest.raises(UserError, match=said):
            bank_command("export", scored, "--to", "png", "--out", tmp_path / "o", *asked)
        assert not (tmp_path / "o").exists()


class TestHuggingFace:
    def test_every_image(self, bank: Bank, place: Path, odd_root: Path) -> None:
        out = odd_root / "hf"
        bank_command("export", place, "--to", "hf", "--out", out)
        table = table_of(out)
        assert len(table) == 80
        for image, label, psi, z_seed in table.itertuples(index=False):
            name = ("dbp", "trv")[label]
            assert (
                decoded(io.BytesIO(image["bytes"]), "L") == bank.read(name, psi, [z_seed])[0]
            ).all()
            assert image["path"] == export.Pictures().name(name, psi, z_seed)

    def test_the_features_are_declared(self, bank: Bank, place: Path, tmp_path: Path) -> None:
        bank_command("export", place, "--to", "hf", "--out", tmp_path / "o", "--label", "trv")
        (path,) = (tmp_path / "o" / "data").iterdir()
        assert path.name == "train-00000-of-00001.parquet"
        schema = pq.read_schema(path)
        assert [str(field.type) for field in schema] == [
            "struct<bytes: binary, path: string>",
            "int64",
            "double",
            "int64",
        ]
        assert json.loads(schema.metadata[b"huggingface"]) == {
            "info": {
                "features": {
                    "image": {"_type": "Image"},
                    "label": {"names": ["dbp", "trv"], "_type": "ClassLabel"},
                    "psi": {"dtype": "float64", "_type": "Value"},
                    "z_seed": {"dtype": "int64", "_type": "Value"},
                }
            }
        }
        # the class of a label does not depend on which labels are exported
        assert set(table_of(tmp_path / "o")["label"]) == {1}

    def test_the_library_reads_it(
        self, bank: Bank, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        import datasets

        bank_command("export", place, "--to", "hf", "--out", tmp_path / "hf")
        read = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
        rows = read["train"]
        assert len(rows) == len(bank.index())
        assert isinstance(rows.features["image"], datasets.Image)
        names = rows.features["label"].names
        for row in rows.select([0, 7, len(rows) - 1]):
            (held,) = bank.read(names[row["label"]], row["psi"], [row["z_seed"]])
            assert (np.asarray(row["image"]) == held[..., 0]).all()

    def test_the_card(self, bank: Bank, place: Path, tmp_path: Path) -> None:
        asked = ["--seeds", "2-5", "--psi", "0.5"]
        bank_command("export", place, "--to", "hf", "--out", tmp_path / "o", *asked)
        card = (tmp_path / "o" / "README.md").read_text()
        assert card.startswith("---\ntags:\n- synthetic\n---\n")
        assert "configs" not in card  # or `datasets` takes exports of one name for one
        assert "8 images of 16 px, 1 channel, all made by" in card
        assert "Noise: none." in card
        for label in ("dbp", "trv"):
            assert bank.spec.sources[label].sha256[:12] in card
            assert f"* {label}, psi 0.5: 4 images, z_seeds 2 to 5" in card

    def test_files_and_row_groups_are_small(
        self, bank: Bank, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export, "FILE_ROWS", 32)
        monkeypatch.setattr(export, "BATCH_ROWS", 12)
        bank_command("export", place, "--to", "hf", "--out", tmp_path / "o")
        files = sorted((tmp_path / "o" / "data").iterdir())
        assert [path.name for path in files] == [
            f"train-0000{number}-of-00003.parquet" for number in range(3)
        ]
        groups = [
            [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            for file in map(pq.ParquetFile, files)
        ]
        assert groups == [[12, 8, 12], [8, 12, 8], [12, 8]]
        table = table_of(tmp_path / "o")
        assert table["z_seed"].tolist() == [*range(1, 21)] * 4


class TestStreaming:
    @pytest.mark.parametrize("to", ["png", "hf"])
    def test_few_images_are_read_at_once(
        self,
        bank: Bank,
        place: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        to: str,
    ) -> None:
        monkeypatch.setattr(export, "BATCH_BYTES", 7 * 16 * 16 + 1)
        read, asked = Bank.read, []

        def watched(self: Bank, label: str, psi: float, z_seeds: Any) -> np.ndarray:
            asked.append(len(z_seeds))
            return read(self, label, psi, z_seeds)

        monkeypatch.setattr(Bank, "read", watched)
        bank_command("export", place, "--to", to, "--out", tmp_path / "o")
        assert max(asked) == 7
        assert sum(asked) == 80

    def test_progress_on_a_terminal(
        self, bank: Bank, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        bank_command("export", place, "--to", "png", "--out", tmp_path / "o")
        text = capsys.readouterr()
        assert "exporting" in text.err
        assert "80/80" in text.err
        assert "images/s" in text.err
        assert text.out == f"{tmp_path / 'o'}\n"


class TestRefusals:
    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            (["--to", "zip"], ["--to must be png, bmp or hf, got zip"]),
            (["--label", "dpb", "--label", "x"], ["no label `dpb`", "no label `x`", "dbp, trv"]),
            (["--psi", "0.7,1"], ["no dbp at psi 0.7; the bank has psi 0.5, 1", "no trv at"]),
            (["--seeds", "20-22"], ["2 of 3 z_seeds of trv at psi 1", "the first is 21"]),
        ],
    )
    def test_what_cannot_be(
        self, bank: Bank, place: Path, tmp_path: Path, asked: list[str], words: list[str]
    ) -> None:
        with pytest.raises(UserError) as caught:
            bank_command("export", place, "--to", "png", "--out", tmp_path / "o", *asked)
        for word in words:
            assert word in str(caught.value)
        assert not (tmp_path / "o").exists()

    def test_a_place_that_is_taken(self, bank: Bank, place: Path, tmp_path: Path) -> None:
        (tmp_path / "o").mkdir()
        bank_command("export", place, "--to", "png", "--out", tmp_path / "o", "--seeds", "1")
        with pytest.raises(BankError, match=r"o is not empty\. Give a new folder"):
            bank_command("export", place, "--to", "png", "--out", tmp_path / "o", "--seeds", "1")
        (tmp_path / "f").write_text("x")
        with pytest.raises(BankError, match="f is a file, and an export is a folder"):
            bank_command("export", place, "--to", "hf", "--out", tmp_path / "f")

    @pytest.mark.parametrize("label", ["../x", ".hidden", "", "a/b"])
    @pytest.mark.parametrize("write", [export.write_pictures, export.write_hf])
    def test_a_label_that_would_leave_the_folder(
        self, bank: Bank, tmp_path: Path, label: str, write: Any
    ) -> None:
        demand = Demand.of([(label, 1.0, np.array([1]))])
        with pytest.raises(BankError, match="is not a valid folder name"):
            write(bank, demand, tmp_path / "o" / "o", lambda done: None)
        assert not list(tmp_path.iterdir())


class TestBrokenOff:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    @pytest.mark.parametrize("to", ["png", "hf"])
    def test_a_full_disk(
        self,
        bank: Bank,
        place: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        to: str,
        code: int,
    ) -> None:
        self.break_off(monkeypatch, OSError(code, "full"))
        with pytest.raises(DiskFullError, match=r"which is unfinished\. Remove that folder"):
            bank_command("export", place, "--to", to, "--out", tmp_path / "o")
        self.check_unfinished(tmp_path / "o", to)
        monkeypatch.undo()
        with pytest.raises(
            BankError, match=r"unfinished export \(it has no (index.csv|README.md)\)"
        ):
            bank_command("export", place, "--to", to, "--out", tmp_path / "o")

    @pytest.mark.parametrize(
        ("to", "write"), [("png", export.write_pictures), ("hf", export.write_hf)]
    )
    def test_an_interruption(
        self, bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, write: Any
    ) -> None:
        self.break_off(monkeypatch, KeyboardInterrupt())
        demand = Demand.of([("dbp", 1.0, np.arange(1, 21)), ("trv", 1.0, np.arange(1, 21))])
        with pytest.raises(KeyboardInterrupt):
            write(bank, demand, tmp_path / "o", lambda done: None)
        self.check_unfinished(tmp_path / "o", to)

    def break_off(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        """Raise `error` when the third thing is written."""
        left = iter([True, True])
        monkeypatch.setattr(export, "BATCH_ROWS", 12)
        for owner, name in ((Path, "write_bytes"), (pq.ParquetWriter, "write_table")):
            write = getattr(owner, name)

            def breaks(self: Any, *data: Any, write: Any = write) -> Any:
                if next(left, False):
                    return write(self, *data)
                raise error

            monkeypatch.setattr(owner, name, breaks)

    def check_unfinished(self, out: Path, to: str) -> None:
        assert not (out / export.MARKERS[to]).exists()
        assert not list(out.rglob("*.tmp"))
        assert not list(out.rglob("*.parquet"))  # the only file was not whole
