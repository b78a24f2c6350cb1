"""Banks scored: known answers on the phantom, what is kept, what is asked again, refusals."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom
from sklearn.metrics import roc_auc_score
from small_bank import fill_stub
from small_grid import phantom_dataset
from small_model import kept_classifier

from fgaug.bank import Bank, BankSpec, BankWriter, Scorer, open_bank, read_scores, scores, unscored
from fgaug.bank.import_images import imported_source
from fgaug.data import Dataset, draw_image, open_dataset
from fgaug.data.phantom import PhantomParameters
from fgaug.data.prepare import prepare
from fgaug.errors import BankError, DataError, SnapshotError, UserError
from fgaug.quality.features import cache, networks
from fgaug.quality.features.networks import FeatureNetwork
from fgaug.quality.features.of_bank import features_of_fakes
from fgaug.quality.scoring import score_bank
from fgaug.quality.scoring.image_scores import ALPHA
from fgaug.quality.scoring.score_bank import ScoreOptions, score_fakes, scorer_of

NETWORK = Path(__file__).parent / "data" / "stylegan2" / "tiny.pkl"
FRESH = 1 << 31  # seeds of draws that no dataset has
CPU = ScoreOptions(device="cpu")
CLEAR = PhantomParameters(contrast_db=24)  # planes that a plain classifier tells apart


class Coarse(torch.nn.Module):
    """Mean and deviation of 4 x 4 px: a feature network that takes no time."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images[:, :1].float() / 255
        mean, square = (torch.nn.functional.avg_pool2d(each, 4).flatten(1) for each in (x, x * x))
        return torch.cat([mean, (square - mean * mean).clamp_min(0).sqrt()], dim=1)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> FeatureNetwork:
    """Put a network that takes no time in the place of the packaged one."""
    network = FeatureNetwork(
        Coarse(), name="coarse", sha256="c0" * 32, side=32, words="means", device="cpu"
    )
    monkeypatch.setattr(networks, "load_network", lambda *_: network)
    return network


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Let no test find the judges of another."""
    yield
    score_bank._judges.clear()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("scoring") / "dataset"
    phantom = {"images": 460, "label_noise": 0.0, "parameters": CLEAR}
    prepare(out=out, size=32, preset="phantom", phantom=phantom, valid=0.5)
    return open_dataset(out)


def draws(plane: str, count: int, first: int = 0, spread: float = 1.0) -> np.ndarray:
    """Return fresh patients; of the spread below 1 they are as fakes of a psi below 1."""
    seeds = range(FRESH + first, FRESH + first + count)
    images = [draw_image(plane, seed, size=32, spread=spread, parameters=CLEAR) for seed in seeds]
    return np.stack(images)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 256, (count, 32, 32, 1), np.uint8)


def reals(data: Dataset, label: str, split: str = "train") -> np.ndarray:
    rows = (data.manifest["label"] == label) & (data.manifest["split"] == split)
    return np.flatnonzero(rows)


def bank_of(root: Path, parts: dict[tuple[str, float], Sequence[np.ndarray]]) -> Bank:
    """Return a bank whose z_seeds of each (label, psi), from 1 on, are given images."""
    sources = {label: imported_source(label) for label, _ in parts}
    spec = BankSpec(size=32, channels=1, noise="none", sources=sources)
    with BankWriter.opened(root, spec) as writer:
        for (label, psi), images in parts.items():
            whole = np.concatenate(images)
            for start in range(0, len(whole), 64):
                piece = whole[start : start + 64]
                writer.write(label, psi, np.arange(start + 1, start + 1 + len(piece)), piece)
        return writer.commit()


def scored(
    bank: Bank, data: Dataset, name: str, label: str, psi: float, how: ScoreOptions = CPU
) -> pd.DataFrame:
    """Return all of a label's scores, made first."""
    index = bank.index()
    held = index[(index["label"] == label) & (index["psi"] == psi)]["z_seed"].to_numpy()
    scorer = scorer_of(name, data, how)
    score_fakes(bank, [scorer], label, psi, held, data, how=how)
    return read_scores(bank.store, scorer, label, psi, np.sort(held))


def check_realism_of_noise(bank: Bank, data: Dataset) -> None:
    found = scored(bank, data, "features", "dbp", 1.0)["realism"].to_numpy()
    assert found[60:].max() < found[:60].min()
    assert not np.isinf(found).any()


def check_confidence(found: pd.DataFrame, least: float) -> None:
    """The first half is of its label, the second of the other: confidence tells them apart."""
    half = len(found) // 2
    own = np.arange(len(found)) < half
    assert roc_auc_score(own, found["confidence"]) >= least


def check_copies(bank: Bank, data: Dataset, planted: dict[float, np.ndarray]) -> None:
    """Planted copies of training images are found, and hardly anything else."""
    for psi, which in planted.items():
        found = scored(bank, data, "features", "trv", psi)
        copied = np.zeros(len(found), bool)
        copied[which] = True
        assert found["copy"][copied].mean() >= 0.95, psi
        false = int(found["copy"][~copied].sum())
        assert false <= binom.ppf(0.999, (~copied).sum(), ALPHA), (psi, false)
        names = data.manifest["image_id"].to_numpy()[reals(data, "trv")]
        exact = found[copied][found["nearest_distance"][copied] == 0]
        assert set(exact["nearest"]) <= set(names)


def with_copies(
    root: Path, data: Dataset, count: int, shares: Sequence[float]
) -> tuple[Bank, dict[float, np.ndarray]]:
    """Return a bank that has, at a psi of each share, so many copies among fresh draws."""
    rng = np.random.default_rng(3)
    chosen, parts = {}, {}
    for number, share in enumerate(shares):
        fakes = draws("trv", count, first=10_000 * (number + 1))
        which = rng.choice(count, max(1, round(share * count)), replace=False)
        originals = rng.choice(reals(data, "trv"), len(which))
        fakes[which] = data.pixels()[originals]
        chosen[share], parts["trv", share] = which, [fakes]
    return bank_of(root, parts), chosen


@pytest.mark.usefixtures("coarse")
class TestKnownAnswers:
    def test_noise_is_least_real(self, data: Dataset, tmp_path: Path) -> None:
        bank = bank_of(tmp_path, {("dbp", 1.0): [draws("dbp", 60, spread=0.5), noise(10)]})
        check_realism_of_noise(bank, data)

    def test_fakes_of_the_other_label_get_low_confidence(
        self, data: Dataset, tmp_path: Path
    ) -> None:
        images = [draws(plane, 80, spread=0.5) for plane in ("dbp", "trv")]
        bank = bank_of(tmp_path, {("dbp", 1.0): images})
        found = scored(bank, data, "classifier", "dbp", 1.0)
        check_confidence(found, least=0.8)
        own, other = found[:80], found[80:]
        assert own["agrees"].mean() > other["agrees"].mean() + 0.2
        np.testing.assert_array_equal(found["agrees"], found["margin"] > 0)
        np.testing.assert_allclose(found["margin"], 2 * found["confidence"] - 1)  # two labels

    def test_planted_copies_are_found(self, data: Dataset, tmp_path: Path) -> None:
        bank, planted = with_copies(tmp_path, data, 200, (0.01, 0.05, 0.2))
        check_copies(bank, data, planted)

    def test_held_out_reals_are_no_copies(self, data: Dataset) -> None:
        """At most the stated share of them, as their own distances set the threshold."""
        judge = score_bank.judge_of(
            scorer_of("features", data, CPU), data, CPU, score_bank.ProgressCounter()
        )
        for label in data.spec.labels:
            found = judge.heldout(label)  # type: ignore[attr-defined]  # of features
            assert found["copy"].mean() <= ALPHA
            assert judge.threshold(label) > 0  # type: ignore[attr-defined]  # enough of them


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestKnownAnswersWithThePackagedNetwork:
    def test_noise_and_the_other_label(self, data: Dataset, tmp_path: Path) -> None:
        images = [draws("dbp", 60, spread=0.5), noise(10)]
        check_realism_of_noise(bank_of(tmp_path / "noise", {("dbp", 1.0): images}), data)
        images = [draws(plane, 80, spread=0.5) for plane in ("dbp", "trv")]
        bank = bank_of(tmp_path / "labels", {("dbp", 1.0): images})
        check_confidence(scored(bank, data, "classifier", "dbp", 1.0), least=0.85)

    def test_planted_copies_are_found(self, data: Dataset, tmp_path: Path) -> None:
        bank, planted = with_copies(tmp_path, data, 400, (0.01, 0.05, 0.2))
        check_copies(bank, data, planted)


@pytest.mark.usefixtures("coarse")
class TestWhatIsAskedFor:
    @pytest.fixture
    def bank(self, tmp_path: Path) -> Bank:
        return bank_of(tmp_path, {("dbp", 0.5): [draws("dbp", 150)], ("trv", 1.0): [noise(70)]})

    def test_only_what_lacks_scores_is_scored(self, bank: Bank, data: Dataset) -> None:
        scorer = scorer_of("classifier", data, CPU)
        told: list[tuple[int, int]] = []
        ask = [140, 3, 77, 5]
        score_fakes(
            bank, [scorer], "dbp", 0.5, ask, data, lambda *counts: told.append(counts), CPU
        )
        assert unscored(bank.store, scorer, "dbp", 0.5, range(1, 151)) == [
            z_seed for z_seed in range(1, 151) if z_seed not in ask
        ]
        n_train = int((data.manifest["split"] == "train").sum())
        assert told[-1] == (n_train + 4, n_train + 4)
        told.clear()
        score_fakes(
            bank, [scorer], "dbp", 0.5, [3, 4], data, lambda *counts: told.append(counts), CPU
        )
        assert set(told) == {(1, 1)}  # the classifier is there, and so is z_seed 3
        told.clear()
        score_fakes(
            bank, [scorer], "dbp", 0.5, [4, 3], data, lambda *counts: told.append(counts), CPU
        )
        assert told == []

    def test_progress_within_a_shard(
        self, bank: Bank, data: Dataset, coarse: FeatureNetwork, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache, "_BLOCK", 25)
        told: list[int] = []
        features_of_fakes(bank, "trv", 1.0, np.arange(70, 20, -1), coarse, told.append)
        assert told == sorted(told)
        assert {25, 44, 50} >= set(told) > {50}  # a shard of 64, of which 44 are asked, and of 6

    def test_scores_do_not_depend_on_what_else_is_asked(
        self, bank: Bank, data: Dataset, tmp_path: Path
    ) -> None:
        scorers = [scorer_of(name, data, CPU) for name in ("features", "classifier")]
        score_fakes(bank, scorers, "dbp", 0.5, range(1, 151), data, how=CPU)
        other = bank_of(tmp_path / "other", {("dbp", 0.5): [draws("dbp", 150)]})
        for part in ([7, 90, 2], [91, 7, 150]):
            score_fakes(other, scorers, "dbp", 0.5, part, data, how=CPU)
        for scorer in scorers:
            one, two = (
                read_scores(each.store, scorer, "dbp", 0.5, [150, 2, 7, 90, 91])
                for each in (bank, other)
            )
            pd.testing.assert_frame_equal(one, two, rtol=1e-5)

    def test_an_interrupted_scoring_goes_on(
        self, bank: Bank, data: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scorer, every = scorer_of("classifier", data, CPU), range(1, 151)
        write, left = scores.write_scores, iter([True])

        def cut_off(*arguments: Any) -> None:
            if not next(left, False):
                raise BankError("cut off")
            write(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(score_bank, "write_scores", cut_off)
            with pytest.raises(BankError, match="cut off"):
                score_fakes(bank, [scorer], "dbp", 0.5, every, data, how=CPU)
        lacking = unscored(bank.store, scorer, "dbp", 0.5, every)
        assert len(lacking) == 150 - 64  # a shard of the bank is kept
        score_fakes(bank, [scorer], "dbp", 0.5, every, data, how=CPU)
        assert unscored(bank.store, scorer, "dbp", 0.5, every) == []

    def test_a_label_that_the_reals_lack(self, bank: Bank, data: Dataset) -> None:
        with pytest.raises(DataError, match="has no label xyz; its labels are dbp, trv"):
            score_fakes(bank, [scorer_of("classifier", data, CPU)], "xyz", 1, [1], data, how=CPU)

    def test_images_of_another_size(self, data: Dataset, tmp_path: Path) -> None:
        small = fill_stub(tmp_path / "small", [("dbp", 0.5, np.arange(1, 3))])
        with pytest.raises(BankError, match=r"images of 16 px.*of 32 px"):
            score_fakes(small, [scorer_of("features", data, CPU)], "dbp", 0.5, [1], data, how=CPU)

    def test_a_scorer_of_other_reals(self, bank: Bank, data: Dataset) -> None:
        other = scorer_of("features", data.with_split(5), CPU)
        with pytest.raises(UserError, match="no longer matches its files"):
            score_fakes(bank, [other], "dbp", 0.5, [1], data, how=CPU)


class TestIdentity:
    def test_what_the_numbers_follow_from(self, data: Dataset, tmp_path: Path) -> None:
        model = kept_classifier(
            tmp_path / "trial", dataset_digest=data.spec.digest, cell="baseline seed 3"
        )
        other_split = data.with_split(4)
        scorers = [
            scorer_of("features", data),
            scorer_of("classifier", data),
            scorer_of("discriminator", data),
            scorer_of("features", other_split),
            scorer_of("classifier", other_split),
            scorer_of("classifier", data, ScoreOptions(classifier=f"model:{model}")),
            scorer_of("features", data, ScoreOptions(features=f"model:{model}")),
        ]
        assert len({each.digest for each in scorers}) == len(scorers)
        assert all(len(each.digest) == 64 for each in scorers)

    def test_what_does_not_matter(self, data: Dataset, tmp_path: Path) -> None:
        shutil.copytree(data.root, tmp_path / "moved")
        moved = open_dataset(tmp_path / "moved")
        for name in ("features", "classifier", "discriminator"):
            first = scorer_of(name, data, ScoreOptions(device="cuda"))
            assert scorer_of(name, moved, CPU) == first
        features = ScoreOptions(features="lite0", classifier="lite0")
        assert scorer_of("classifier", data, features) == scorer_of("classifier", data)

    def test_nothing_is_computed(self, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(FeatureNetwork, "features", None)
        monkeypatch.setattr(Dataset, "pixels", None)
        for name in ("features", "classifier"):
            assert isinstance(scorer_of(name, data), Scorer)

    def test_an_unknown_name(self, data: Dataset) -> None:
        with pytest.raises(
            UserError, match="--scorer must be features, classifier, discriminator"
        ):
            scorer_of("beauty", data)


class TestKeptClassifier:
    def test_scores_are_those_that_predict_gives(self, data: Dataset, tmp_path: Path) -> None:
        from PIL import Image

        from fgaug.training.predict import predict

        model = kept_classifier(tmp_path / "trial", dataset_digest=data.spec.digest)
        images = draws("dbp", 5)
        bank = bank_of(tmp_path / "bank", {("trv", 1.0): [images]})
        how = ScoreOptions(classifier=f"model:{model}", device="cpu")
        found = scored(bank, data, "classifier", "trv", 1.0, how)
        for number, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(tmp_path / f"{number}.png")
        expected = predict(model, [tmp_path / f"{number}.png" for number in range(5)])
        np.testing.assert_allclose(found["confidence"], expected["p_trv"], rtol=1e-5)
        assert found["agrees"].tolist() == (expected["predicted"] == "trv").tolist()

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"cell": "augmentation psi 0.7 ratio 1 seed 3"}, "has the mode augmentation"),
            ({"cell": "synthetic psi 0.7 seed 3"}, "has the mode synthetic"),
            ({"dataset_digest": "ee" * 32}, "was trained on the dataset eeeeeeeeeeee"),
            ({"labels": ("dbp", "xyz")}, "has the labels dbp, xyz"),
            ({"split": 11}, r"was trained on another split \(11\)"),
        ],
    )
    def test_others_are_refused(
        self, data: Dataset, tmp_path: Path, changes: dict[str, Any], told: str
    ) -> None:
        asked = {"dataset_digest": data.spec.digest, **changes}
        model = kept_classifier(tmp_path / "trial", **asked)
        with pytest.raises(UserError, match=told):
            scorer_of("classifier", data, ScoreOptions(classifier=f"model:{model}"))

    def test_one_of_the_same_split(self, data: Dataset, tmp_path: Path) -> None:
        model = kept_classifier(tmp_path / "t", dataset_digest=data.spec.digest, split=11)
        how = ScoreOptions(classifier=f"model:{model}")
        assert scorer_of("classifier", data.with_split(11), how).words.startswith("kept")

    def test_words_that_name_none(self, data: Dataset) -> None:
        with pytest.raises(
            UserError,
            match=r"--classifier must be lite0, model:FILE or a file of Keras .*, got resnet",
        ):
            scorer_of("classifier", data, ScoreOptions(classifier="resnet"))


class TestDiscriminator:
    @pytest.fixture
    def bank(self, tmp_path: Path) -> Bank:
        from fgaug.bank import Demand
        from gan_worker.filling.fill import fill
        from gan_worker.filling.label_generators import LabelSource, describe

        source = LabelSource(kind="stylegan2", file=str(NETWORK))
        spec = BankSpec(
            size=8, channels=1, noise="const", sources={"dbp": describe("dbp", source)}
        )
        wanted = Demand.of([("dbp", 0.7, np.arange(1, 8))])
        return fill(tmp_path / "bank", spec, {"dbp": source}, wanted)

    @pytest.fixture
    def tiny(self, tmp_path: Path) -> Dataset:
        prepare(out=tmp_path / "data", size=8, preset="phantom", phantom={"images": 60})
        return open_dataset(tmp_path / "data")

    def test_logits_are_those_of_each_image_alone(self, bank: Bank, tiny: Dataset) -> None:
        from gan_worker.files.discriminators import read_discriminator

        how = ScoreOptions(discriminators=(("dbp", str(NETWORK)),), device="cpu")
        found = scored(bank, tiny, "discriminator", "dbp", 0.7, how)["logit"]
        network = read_discriminator(NETWORK).network()
        images = torch.from_numpy(bank.read("dbp", 0.7, range(1, 8)))
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            alone = [network(pixels[n : n + 1]).item() for n in range(7)]
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)

    def test_files_that_are_not_the_bank_s(
        self, bank: Bank, tiny: Dataset, tmp_path: Path
    ) -> None:
        with pytest.raises(SnapshotError, match=r"--discriminator dbp=tiny\.pkl"):
            scored(bank, tiny, "discriminator", "dbp", 0.7, CPU)
        how = ScoreOptions(discriminators=(("dbp", str(NETWORK.parent / "a.pkl")),), device="cpu")
        with pytest.raises(SnapshotError, match="Name the pickle from which the bank was filled"):
            scored(bank, tiny, "discriminator", "dbp", 0.7, how)


@pytest.mark.usefixtures("coarse")
class TestCommand:
    def test_scores_all_and_prints_a_table(
        self, data: Dataset, tmp_path: Path, fgaug: Any
    ) -> None:
        images = data.pixels()[reals(data, "dbp")[:1]]
        parts = {("dbp", 1.0): [draws("dbp", 20), images], ("trv", 0.5): [draws("trv", 20)]}
        bank = bank_of(tmp_path / "bank", parts)
        arguments = ("bank", "score", bank.store.uri, "--dataset", data.root, "--device", "cpu")
        code, out, err = fgaug(*arguments)
        assert code == 0, err
        rows = [line.split() for line in out.splitlines() if " dbp " in line or " trv " in line]
        dbp, trv = (row for row in rows if row[0] == "│")
        assert [dbp[at] for at in (1, 3, 5, 11)] == ["dbp", "1", "21", "1"]  # one copy
        assert [trv[at] for at in (1, 3, 5, 11)] == ["trv", "0.5", "20", "0"]
        assert "training reals, by classifiers that never saw their patients: dbp" in out
        assert "validation reals of trv (" in out
        last = out.splitlines()[-1]
        assert Path(last).is_dir()
        found = open_bank(bank.store).index(scores=["features", "classifier"])
        assert found.notna().all(axis=None)
        assert found[found["copy"]][["label", "z_seed"]].values.tolist() == [["dbp", 21]]
        assert fgaug(*arguments)[1] == out
        info = fgaug("bank", "info", bank.store.uri)[1]
        assert "classifier-" in info
        assert ": 41 images (logistic regression on lite0-" in info

    def test_only_what_is_named(self, data: Dataset, tmp_path: Path, fgaug: Any) -> None:
        parts = {("dbp", 1.0): [draws("dbp", 5)], ("trv", 0.5): [draws("trv", 5)]}
        bank = bank_of(tmp_path / "bank", parts)
        arguments = ("bank", "score", bank.store.uri, "--dataset", data.root)
        code, out, _ = fgaug(*arguments, "--scorer", "classifier", "--label", "trv")
        assert code == 0
        assert "realism" not in out
        assert set(bank.scores("classifier")["label"]) == {"trv"}
        assert fgaug(*arguments, "--scorer", "beauty")[0] == 2
        code, _, err = fgaug(*arguments, "--discriminator", "trv")
        assert (code, "--discriminator must be LABEL=FILE, got trv" in err) == (2, True)


@pytest.mark.usefixtures("coarse")
def test_reals_that_are_too_few(tmp_path: Path) -> None:
    data = open_dataset(phantom_dataset(tmp_path, images=60))
    keep = data.manifest["label"].eq("trv") | ~data.manifest["split"].eq("train")
    keep |= data.manifest.index.isin(reals(data, "dbp")[:5])
    manifest = data.manifest.assign(split=data.manifest["split"].where(keep, "valid"))
    few = dataclasses.replace(data, manifest=manifest)
    bank = bank_of(tmp_path / "bank", {("dbp", 1.0): [draws("dbp", 5)]})
    with pytest.raises(DataError, match="dbp has 5 training images; neighbour scores need 6"):
        scored(bank, few, "features", "dbp", 1.0)
    alone = dataclasses.replace(
        data,
        manifest=manifest[manifest["label"] == "trv"],
        spec=dataclasses.replace(data.spec, labels=("trv",)),
    )
    with pytest.raises(DataError, match="has only the label trv"):
        scored(bank_of(tmp_path / "b", {("trv", 1.0): [noise(2)]}), alone, "classifier", "trv", 1)


def test_few_held_out_reals(tmp_path: Path, fgaug: Any, coarse: FeatureNetwork) -> None:
    """Then only exact copies count, and the command says so."""
    data = open_dataset(phantom_dataset(tmp_path, images=60))
    bank = bank_of(tmp_path / "bank", {("dbp", 1.0): [draws("dbp", 5)]})
    _, out, _ = fgaug("bank", "score", bank.store.uri, "--dataset", data.root)
    assert "fewer than 99, so only exact copies count" in out
