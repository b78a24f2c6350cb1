"""External programs: stand-ins with both command lines keep the contract of every generator."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_grid import grid, phantom_dataset
from test_generator import TestGeneratorContract  # noqa: F401 - collected here with our fixture

from fgaug.bank import BankSpec, Demand
from fgaug.bank.resize import fit_to_bank
from fgaug.errors import BankError, GridError, SnapshotError
from fgaug.grid.load import parse_space
from fgaug.study.planner import plan
from gan_worker.filling.fill import fill
from gan_worker.filling.label_generators import (
    LabelGenerator,
    LabelSource,
    check_sources,
    describe,
    open_sources,
)
from gan_worker.generators.external import Checkout, ExternalGenerator
from gan_worker.generators.stylegan2 import Generator

STAND_IN = Path(__file__).parent / "stand_in"
FORMS = ("generate.py", "run_generator.py")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where temporary folders lie: a place with blanks and quotes in its path."""
    place = tmp_path / "it's a scratch [1]"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def network(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a network file of a stand-in."""

    def write(name: str = "net.pkl", **asked: Any) -> str:
        path = tmp_path / name
        path.write_text(json.dumps(asked))
        return str(path)

    return write


def checkout(form: str | None = None, **changes: Any) -> Checkout:
    asked = {"python": sys.executable, "repo": str(STAND_IN), "program": form, **changes}
    return Checkout(**asked)


def source(file: str, form: str | None = None, **changes: Any) -> LabelSource:
    asked = {"python": sys.executable, "repo": str(STAND_IN), "program": form, **changes}
    return LabelSource(kind="external", file=file, **asked)


def spec_of(sources: dict[str, LabelSource], size: int = 8, channels: int = 1) -> BankSpec:
    described = {label: describe(label, each) for label, each in sources.items()}
    return BankSpec(size=size, channels=channels, noise="const", sources=described)


def starts(file: Path) -> list[list[str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(params=["generate.py", "generate.py, colour, classes", "run_generator.py"])
def generator(request: pytest.FixtureRequest, network: Callable[..., str]) -> Generator:
    form, *more = request.param.split(", ")
    file = network(size=12, channels=3 if more else 1)
    return ExternalGenerator("dbp", file, checkout(form), class_index=1 if more else None)


class TestTheProgram:
    @pytest.mark.parametrize("form", FORMS)
    def test_what_it_is_asked(
        self, tmp_path: Path, network: Callable[..., str], form: str
    ) -> None:
        noted = tmp_path / "starts"
        file = network(starts=str(noted))
        made = ExternalGenerator("dbp", file, checkout(form), batch=3)
        images = made.generate([4, 2, 9, 2, 1], 0.7)
        assert images.shape == (5, 8, 8, 1)
        assert (images[1] == images[3]).all()
        first, second = starts(noted)
        shared = [f"--network={file}", "--seeds=4,2,9"]
        if form == "generate.py":
            assert first[:3] == [*shared, "--trunc=0.7"]
            assert first[3].startswith("--outdir=")
        else:
            assert first[:4] == ["generate-images", *shared, "--truncation-psi=0.7"]
            assert first[4].startswith("--result-dir=")
        assert "--seeds=1" in second

    def test_images_of_both_forms_are_imported_as_they_are(
        self, network: Callable[..., str], tmp_path: Path
    ) -> None:
        file = network(size=16, channels=3)
        one, two = (ExternalGenerator("x", file, checkout(form)) for form in FORMS)
        assert (one.size, one.channels, one.labels) == (0, 0, 0)
        images = one.generate([7], 0.5)
        assert (one.size, one.channels) == (16, 3)
        assert (images == two.generate([7], 0.5)).all()
        sys.path.insert(0, str(STAND_IN))
        try:
            from patterns import drawn  # type: ignore[import-not-found]  # beside the programs
        finally:
            sys.path.remove(str(STAND_IN))
        assert images.tobytes() == drawn("7-0.5--1", 16 * 16 * 3)

    def test_class_and_prefix(self, tmp_path: Path, network: Callable[..., str]) -> None:
        noted = tmp_path / "starts"
        file = network(starts=str(noted))
        plain = ExternalGenerator("x", file, checkout(), class_index=1)
        named = ExternalGenerator("x", file, checkout(prefix="trv_7"), class_index=1)
        assert (plain.labels, plain.form) == (2, "generate.py")
        assert (plain.generate([1, 12], 1.6, 1) == named.generate([1, 12], 1.6, 1)).all()
        assert starts(noted)[1][-2:] == ["--class=1", "--prefix=trv_7"]

    def test_a_prefix_that_ends_in_a_digit(self, network: Callable[..., str]) -> None:
        made = ExternalGenerator("x", network(bare=True), checkout(prefix="trv7"))
        assert made.generate([1, 12345], 0.7).shape == (2, 8, 8, 1)

    def test_the_form_is_the_one_that_the_checkout_has(
        self, tmp_path: Path, network: Callable[..., str]
    ) -> None:
        repo = tmp_path / "a checkout"
        repo.mkdir()
        for name in ("patterns.py", "run_generator.py"):
            shutil.copy(STAND_IN / name, repo)
        only = ExternalGenerator("x", network(), checkout(repo=str(repo)))
        assert only.form == "run_generator.py"
        assert only.generate([1], 1).shape == (1, 8, 8, 1)
        assert ExternalGenerator("x", network(), checkout()).form == "generate.py"

    def test_relative_paths(
        self, monkeypatch: pytest.MonkeyPatch, network: Callable[..., str], tmp_path: Path
    ) -> None:
        network()
        monkeypatch.chdir(tmp_path)
        python, repo = os.path.relpath(sys.executable), os.path.relpath(STAND_IN)
        made = ExternalGenerator("x", "net.pkl", checkout(python=python, repo=repo))
        assert made.generate([1], 0.7).shape == (1, 8, 8, 1)

    def test_grey_and_colour_images_of_one_network(self, network: Callable[..., str]) -> None:
        """An RGB network may draw an image whose channels are equal."""
        made = ExternalGenerator("x", network(), checkout())
        grey = made.generate([1], 0.7)
        network(channels=3)
        colour = made.generate([2], 0.7)
        assert colour.shape == (1, 8, 8, 3)
        network()
        assert (made.generate([1], 0.7) == grey).all()
        assert made.generate([1], 0.7).shape == (1, 8, 8, 3)

    def test_nothing_stays_behind(self, scratch: Path, network: Callable[..., str]) -> None:
        made = ExternalGenerator("x", network(), checkout())
        made.generate([1, 2], 0.7)
        network(fail=1)
        with pytest.raises(SnapshotError):
            made.generate([1, 2], 0.7)
        assert not list(scratch.iterdir())


class TestFailures:
    def refused(self, file: str, seeds: list[int], form: str = "generate.py", **more: Any) -> str:
        with pytest.raises(SnapshotError) as caught:
            ExternalGenerator("trv", file, checkout(form, **more)).generate(seeds, 0.7)
        return str(caught.value)

    @pytest.mark.parametrize("form", FORMS)
    def test_a_status(self, network: Callable[..., str], form: str) -> None:
        lines = self.refused(network(fail=3, log=5000), [1], form).splitlines()
        assert lines[0] == "the external program of `trv` ended with status 3; its last lines:"
        assert len(lines) == 21
        assert lines[1] == "  line 4981"
        assert lines[-1] == "   [31mRuntimeError [0m: no kernel image"  # escapes are blanked

    def test_a_signal_and_an_empty_log(self, tmp_path: Path, network: Callable[..., str]) -> None:
        (tmp_path / "generate.py").write_text("import os; os.kill(os.getpid(), 9)")
        found = self.refused(network(), [1], repo=str(tmp_path))
        assert "died of signal 9; its last lines:\n  (nothing was printed)" in found

    @pytest.mark.parametrize("form", FORMS)
    def test_images_that_lack(self, network: Callable[..., str], form: str) -> None:
        found = self.refused(network(leave_out=[2, 3]), [1, 2, 3, 4], form)
        assert "`trv` wrote 2 images for 4 seeds; none for 2, 3. Its last lines:\n" in found
        assert "Loading networks from" in found

    @pytest.mark.parametrize("name", ["grid.png", "seed0009.png", "other_seed0001.png"])
    def test_images_that_nobody_asked_for(self, network: Callable[..., str], name: str) -> None:
        found = self.refused(network(extra=[name]), [1, 2])
        assert "wrote 3 images for 2 seeds; unexpected: " in found

    @pytest.mark.parametrize("form", FORMS)
    def test_a_broken_image(self, network: Callable[..., str], form: str) -> None:
        found = self.refused(network(broken=[12]), [1, 12], form)
        assert "an image of seed 12, seed0012.png, that cannot be read: " in found

    def test_mixed_sizes(self, network: Callable[..., str]) -> None:
        found = self.refused(network(sizes={"5": 16}), [1, 5])
        assert "the image of seed 5 has 16 x 16 px, others have 8 px" in found
        made = ExternalGenerator("x", network(), checkout())
        made.generate([1], 0.7)
        network(size=16)
        with pytest.raises(SnapshotError, match="seed 2 has 16 x 16 px, others have 8 px"):
            made.generate([2], 0.7)

    def test_a_program_that_cannot_be_started(
        self, tmp_path: Path, network: Callable[..., str]
    ) -> None:
        python = tmp_path / "python"
        python.write_text("neither a program nor a script")
        python.chmod(0o755)
        found = self.refused(network(), [1], python=str(python))
        assert found.startswith("the external program of `trv` cannot be started: ")

    def test_what_is_missing_is_said_at_once(self, tmp_path: Path) -> None:
        sources = {
            "dbp": source("none.pkl", python="no-such-python", repo="nowhere"),
            "trv": source("-x.pkl", "run_generator.py", prefix="../a", class_index=1),
        }
        spec = BankSpec(size=8, channels=1, noise="const", sources={})
        with pytest.raises(SnapshotError) as caught:
            check_sources(sources, spec)
        first, second = str(caught.value).splitlines()
        assert first == (
            "the external program of `dbp` cannot run: `python` must be an executable file, got "
            "no-such-python; `repo` must be a folder, got nowhere; the network must be a file, "
            "got none.pkl."
        )
        for part in (
            "run_generator.py takes no class, got 1",
            "takes no `prefix`, got ../a",
            "`prefix` must be the start of a file name",
            "must be a file, got -x.pkl",
        ):
            assert part in second

    def test_checkouts_without_the_program(
        self, tmp_path: Path, network: Callable[..., str]
    ) -> None:
        file, repo = network(), str(tmp_path)
        neither = rf"`repo`, {repo}, has neither generate\.py nor run_generator\.py"
        with pytest.raises(SnapshotError, match=neither):
            ExternalGenerator("x", file, checkout(repo=repo))
        with pytest.raises(SnapshotError, match=neither):
            describe("x", source(file, repo=repo))
        with pytest.raises(SnapshotError, match=rf"`repo`, {repo}, has no generate\.py"):
            ExternalGenerator("x", file, checkout("generate.py", repo=repo))
        with pytest.raises(SnapshotError, match=r"`program` must be generate\.py or run_gen"):
            ExternalGenerator("x", file, checkout("../generate.py"))
        with pytest.raises(SnapshotError, match="`python` must be an executable file, got -c"):
            ExternalGenerator("x", file, checkout(python="-c"))


class TestInABank:
    def test_fill(self, tmp_path: Path, network: Callable[..., str]) -> None:
        noted = tmp_path / "starts"
        sources = {
            "dbp": source(network("dbp.pkl", size=32, channels=3)),
            "trv": source(network("trv.pkl", starts=str(noted)), "run_generator.py"),
        }
        spec = spec_of(sources)
        check_sources(sources, spec)
        assert not noted.exists()
        demand = Demand.of([("dbp", 0.7, np.array([5, 1])), ("trv", 0.5, np.arange(1, 4))])
        bank = fill(tmp_path / "bank", spec, sources, demand)
        native = ExternalGenerator("x", str(sources["dbp"].file), checkout()).generate([1, 5], 0.7)
        assert (bank.read("dbp", 0.7, [1, 5]) == fit_to_bank(native, 8, 1)).all()
        assert len(bank.read("trv", 0.5, [1, 2, 3])) == 3
        assert [bank.spec.sources["trv"].kind, bank.spec.sources["trv"].name] == [
            "external",
            "trv.pkl",
        ]
        fill(tmp_path / "bank", spec, sources, demand)
        assert len(starts(noted)) == 1

    def test_a_grid(self, tmp_path: Path, network: Callable[..., str]) -> None:
        phantom_dataset(tmp_path)
        noted = tmp_path / "starts"
        files = {label: network(f"{label}.pkl", starts=str(noted)) for label in ("dbp", "trv")}
        checked = {"kind": "external", "python": sys.executable, "repo": str(STAND_IN)}
        generator = {**checked, "snapshots": files, "noise": "const"}
        planned = plan(parse_space(grid(tmp_path, generator=generator)))
        assert planned.needs[0].missing.count > 0
        assert not noted.exists()
        with pytest.raises(GridError, match="has neither generate"):
            plan(parse_space(grid(tmp_path, generator={**generator, "repo": str(tmp_path)})))
        with pytest.raises(SnapshotError, match="`dbp` cannot run: `python` must be an exec"):
            plan(parse_space(grid(tmp_path, generator={**generator, "python": "nowhere"})))

    def test_images_smaller_than_the_bank(
        self, tmp_path: Path, network: Callable[..., str]
    ) -> None:
        sources = {"dbp": source(network())}
        spec = spec_of(sources, size=16)
        open_sources(sources, spec, "cpu")
        with pytest.raises(SnapshotError, match="makes images of 8 px, but the dataset has 16 px"):
            LabelGenerator("dbp", sources["dbp"], spec, "cpu").generate(np.array([1]), 0.7)

    def test_identity_is_of_network_class_and_form(self, network: Callable[..., str]) -> None:
        file, other = network(), network("other.pkl", size=16)
        moved = str(shutil.copy(file, Path(file).with_name("moved.pkl")))
        digests = [
            describe("dbp", each).sha256
            for each in (
                source(file),
                source(other),
                source(file, class_index=0),
                source(file, class_index=1),
                source(file, "run_generator.py"),
            )
        ]
        assert len(set(digests)) == 5
        for same in (source(moved), source(file, "generate.py"), source(file, prefix="trv_")):
            assert describe("dbp", same).sha256 == digests[0]
        gone = source(file, "generate.py", repo="nowhere", python="nowhere")
        assert describe("dbp", gone).sha256 == digests[0]

    def test_a_network_that_was_replaced(
        self, tmp_path: Path, network: Callable[..., str]
    ) -> None:
        sources = {"dbp": source(network())}
        spec = spec_of(sources)
        wanted = Demand.of([("dbp", 0.7, np.array([1]))])
        fill(tmp_path / "bank", spec, sources, wanted)
        network(size=16)
        with pytest.raises(SnapshotError, match="has changed: the bank was made from"):
            open_sources(sources, spec, "cpu")
        with pytest.raises(BankError, match=r"its snapshot of `dbp` is net\.pkl"):
            fill(tmp_path / "bank", spec_of(sources), sources, wanted)

    def test_a_failure_leaves_no_image(self, tmp_path: Path, network: Callable[..., str]) -> None:
        sources = {"dbp": source(network(broken=[2]))}
        demand = Demand.of([("dbp", 0.7, np.array([1, 2]))])
        with pytest.raises(SnapshotError, match="seed 2"):
            fill(tmp_path / "bank", spec_of(sources), sources, demand)
        assert not list((tmp_path / "bank").rglob("*.parquet"))


def test_a_picture_of_two_sides_is_refused(tmp_path: Path, network: Callable[..., str]) -> None:
    program = tmp_path / "generate.py"
    Image.new("L", (8, 6)).save(tmp_path / "made.png")
    program.write_text(
        "import shutil, sys\n"
        "out = next(a for a in sys.argv if a.startswith('--outdir=')).split('=', 1)[1]\n"
        f"shutil.copy({str(tmp_path / 'made.png')!r}, out + '/seed0001.png')\n"
    )
    made = ExternalGenerator("x", network(), checkout(repo=str(tmp_path)))
    with pytest.raises(
        SnapshotError, match="square images of one size: the image of seed 1 has 8 x 6"
    ):
        made.generate([1], 0.7)
