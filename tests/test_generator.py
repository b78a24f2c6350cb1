"""Generators: one contract for all, and images of the official program for StyleGAN2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import gan_worker
from fgaug.errors import SnapshotError, UserError
from gan_worker.files.snapshot import Snapshot, read_snapshot
from gan_worker.generators.stub import StubGenerator
from gan_worker.generators.stylegan2 import Generator, StyleGan2Generator, load_generator
from gan_worker.networks import GeneratorConfig, GeneratorNetwork

GOLDENS = Path(__file__).parent / "data" / "stylegan2"
LARGEST = 2**32 - 1

MAKERS: dict[str, Callable[[], Generator]] = {
    "stub": lambda: StubGenerator(16, 1),
    "stub, colour, classes": lambda: StubGenerator(12, 3, labels=2),
    "stylegan2": lambda: load_generator(GOLDENS / "tiny.pkl"),
    "stylegan2, seeded noise": lambda: load_generator(GOLDENS / "a.pkl", "seeded"),
    "stylegan2, classes": lambda: load_generator(GOLDENS / "c.pkl", "none"),
}


@pytest.fixture(params=MAKERS)
def generator(request: pytest.FixtureRequest) -> Generator:
    return MAKERS[request.param]()


class TestGeneratorContract:
    """What every generator keeps, whatever makes its images."""

    def label(self, generator: Generator) -> int | None:
        return generator.labels - 1 if generator.labels else None

    def test_images_have_the_promised_shape(self, generator: Generator) -> None:
        images = generator.generate([0, 3, LARGEST], 0.7, self.label(generator))
        assert images.dtype == np.uint8
        assert images.shape == (3, generator.size, generator.size, generator.channels)
        empty = generator.generate([], 0.7, self.label(generator))
        assert empty.dtype == np.uint8
        assert empty.shape == (0, generator.size, generator.size, generator.channels)

    def test_an_image_depends_on_its_seed_alone(self, generator: Generator) -> None:
        label = self.label(generator)
        seeds = [5, 2, LARGEST, 5, 0, 9, 11]
        together = generator.generate(seeds, 0.7, label).astype(int)
        assert np.array_equal(together, generator.generate(seeds, 0.7, label))
        alone = np.concatenate([generator.generate([seed], 0.7, label) for seed in seeds])
        assert np.abs(together - alone).max() <= 1
        assert (together != alone).mean() < 2e-4
        assert np.abs(together[0] - together[3]).max() <= 1
        assert len({image.tobytes() for image in alone}) == len(set(seeds))

    def test_psi_and_label_matter(self, generator: Generator) -> None:
        label = self.label(generator)
        images = [generator.generate([1], psi, label) for psi in (-0.5, 0, 0.3, 1, 1.6)]
        if generator.labels:
            images.append(generator.generate([1], 1, 0))
        assert len({image.tobytes() for image in images}) == len(images)

    def test_many_kinds_of_integers_are_seeds(self, generator: Generator) -> None:
        label = self.label(generator)
        expected = generator.generate([1, 2], 0.7, label)
        assert np.array_equal(generator.generate(range(1, 3), 0.7, label), expected)
        assert np.array_equal(generator.generate(np.array([1, 2]), 0.7, label), expected)

    @pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1"])
    def test_what_is_no_seed_is_refused(self, generator: Generator, seed: object) -> None:
        with pytest.raises(UserError, match=r"from 0 to 4294967295, got "):
            generator.generate([0, seed], 0.7, self.label(generator))

    def test_a_psi_that_is_no_number_is_refused(self, generator: Generator) -> None:
        for psi in (float("nan"), float("inf")):
            with pytest.raises(UserError, match="psi must be a finite number"):
                generator.generate([0], psi, self.label(generator))

    def test_labels_are_checked(self, generator: Generator) -> None:
        wrong: list[int | None] = [-1, generator.labels]
        if generator.labels:
            wrong.append(None)
        for label in wrong:
            with pytest.raises(UserError, match="label must"):
                generator.generate([0], 0.7, label)


@pytest.mark.parametrize("name", ["tiny", "a", "c", "e_resnet"])
def test_images_match_the_official_program(name: str) -> None:
    snapshot = read_snapshot(GOLDENS / f"{name}.pkl")
    generators = [StyleGan2Generator(snapshot, noise_mode=mode) for mode in ("const", "none")]
    off_levels = []
    with np.load(GOLDENS / f"{name}.npz") as goldens:
        for (seed, psi, noise, label), image in zip(
            goldens["f32_index"], goldens["f32"], strict=True
        ):
            chosen = None if label < 0 else int(label)
            ours = generators[int(noise)].synthesize([int(seed)], psi, chosen)
            np.testing.assert_allclose(ours[0], image, rtol=0, atol=2e-5)
        for (seed, psi, noise, label), image in zip(
            goldens["u8_index"], goldens["u8"], strict=True
        ):
            chosen = None if label < 0 else int(label)
            ours = generators[int(noise)].generate([int(seed)], psi, chosen)
            off_levels.append(np.abs(ours[0].astype(int) - image))
    assert np.max(off_levels) <= 1
    assert np.mean(off_levels) <= 2e-4


@pytest.mark.parametrize("noise_mode", ["const", "none", "seeded"])
def test_float_images_do_not_depend_on_their_batch(noise_mode: str) -> None:
    generator = load_generator(GOLDENS / "e_resnet.pkl", noise_mode)
    seeds = [0, 1, 2, 7, 19, 1000, LARGEST]
    together = generator.synthesize(seeds, 0.7)
    assert together.dtype == np.float32
    assert together.shape == (7, 3, 32, 32)
    alone = np.concatenate([generator.synthesize([seed], 0.7) for seed in seeds])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    generator.batch = 3
    np.testing.assert_allclose(generator.synthesize(seeds, 0.7), together, rtol=0, atol=1e-5)


def wide_snapshot(labels: int = 0) -> Snapshot:
    """Return a network wide enough for every way that a CPU convolves, weights drawn anew."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=32,
        img_channels=1,
        labels=labels,
        embed_width=16 if labels else 0,
        z_dim=16,
        w_dim=16,
        widths=(160, 128, 128, 64),
        mapping_layers=2,
        mapping_width=16,
    )
    network = GeneratorNetwork(config)
    for name, tensor in network.named_parameters():
        if name.endswith("noise_strength"):
            tensor.data.fill_(0.2)
    network.mapping.w_avg.normal_()
    tensors = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    return Snapshot(sha256="", kind="drawn", config=config, tensors=tensors)


@pytest.mark.parametrize("noise_mode", ["const", "none", "seeded"])
def test_batches_of_any_size_and_order_give_the_same_floats(noise_mode: str) -> None:
    generator = StyleGan2Generator(wide_snapshot(), noise_mode=noise_mode)
    seeds = list(range(32))
    generator.batch = 1
    alone = generator.synthesize(seeds, 0.7)
    for batch in (7, 32):
        generator.batch = batch
        together = generator.synthesize(seeds, 0.7)
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    shuffled = np.random.default_rng(0).permutation(32)
    again = generator.synthesize(shuffled.tolist(), 0.7)
    np.testing.assert_allclose(again, alone[shuffled], rtol=0, atol=1e-5)


@pytest.mark.parametrize("noise_mode", ["const", "seeded"])
def test_bfloat16_is_off_by_few_levels_in_any_batch(noise_mode: str) -> None:
    exact = StyleGan2Generator(wide_snapshot(), noise_mode=noise_mode)
    rough = StyleGan2Generator(wide_snapshot(), noise_mode=noise_mode, precision="bfloat16")
    seeds = list(range(12))
    levels = exact.generate(seeds, 0.7).astype(int)
    together = rough.generate(seeds, 0.7).astype(int)
    off = np.abs(together - levels)
    assert 0 < off.mean() < 0.33  # 0.24; 0.43 with noise and bias added in bfloat16
    assert off.max() <= 8
    rough.batch = 5
    assert np.abs(rough.generate(seeds, 0.7) - together).max() <= 4


def test_a_cutoff_truncates_the_coarse_vectors_alone() -> None:
    snapshot = wide_snapshot()
    whole = StyleGan2Generator(snapshot).synthesize([1, 2], 0.3)
    free = StyleGan2Generator(snapshot).synthesize([1, 2], 1.0)
    cut = {n: StyleGan2Generator(snapshot, cutoff=n).synthesize([1, 2], 0.3) for n in (0, 3, 8)}
    np.testing.assert_allclose(cut[0], free, atol=1e-5)
    np.testing.assert_allclose(cut[8], whole, atol=1e-5)
    assert min(np.abs(cut[3] - whole).mean(), np.abs(cut[3] - free).mean()) > 0.01
    network = StyleGan2Generator(snapshot).network
    z = torch.from_numpy(np.random.RandomState(1).randn(1, 16)).float()
    with torch.no_grad():
        expected = network(z, psi=0.3, cutoff=3, noise="const")
    np.testing.assert_allclose(cut[3][:1], expected.numpy(), atol=1e-5)


def test_a_cutoff_that_cannot_be_is_refused() -> None:
    for cutoff in (-1, 5, 2.5, "all"):
        with pytest.raises(
            UserError, match="cutoff must be a whole number from 0 to 4, the number"
        ):
            load_generator(GOLDENS / "tiny.pkl", cutoff=cutoff)
    assert load_generator(GOLDENS / "tiny.pkl", cutoff=4).cutoff == 4


def test_seeded_noise_is_drawn_after_z_from_the_same_stream() -> None:
    generator = load_generator(GOLDENS / "a.pkl", "seeded")
    random = np.random.RandomState(7)
    z = torch.from_numpy(random.randn(1, 64)).float()
    sizes = (4, 8, 8, 16, 16, 32, 32)
    maps = [torch.from_numpy(random.randn(1, 1, size, size)).float() for size in sizes]
    network = generator.network
    with torch.no_grad():
        expected = network.synthesis(network.mapping(z, psi=0.5), maps)
    np.testing.assert_allclose(generator.synthesize([7], 0.5), expected.numpy(), atol=1e-6)
    stored = load_generator(GOLDENS / "a.pkl").synthesize([7], 0.5)
    assert np.abs(stored - expected.numpy()).mean() > 0.01


def test_levels_are_cut_not_rounded() -> None:
    generator = load_generator(GOLDENS / "tiny.pkl")
    floats = generator.synthesize(range(40), 1.6)
    levels = np.clip(floats * np.float32(127.5) + np.float32(128), 0, 255).astype(np.uint8)
    assert np.array_equal(generator.generate(range(40), 1.6), levels.transpose(0, 2, 3, 1))


def test_psi_zero_is_one_image_for_every_seed_without_own_noise() -> None:
    images = load_generator(GOLDENS / "tiny.pkl").synthesize([0, 1, LARGEST], 0.0)
    np.testing.assert_allclose(images, images[[0, 0, 0]], rtol=0, atol=1e-6)
    own_noise = load_generator(GOLDENS / "tiny.pkl", "seeded").synthesize([0, 1], 0.0)
    assert np.abs(own_noise[0] - own_noise[1]).max() > 0.01


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UserError, match="noise_mode must be one of"):
        load_generator(GOLDENS / "tiny.pkl", "random")
    with pytest.raises(UserError, match="device must be cpu, cuda or cuda:1, got gpu9"):
        load_generator(GOLDENS / "tiny.pkl", device="gpu9")
    with pytest.raises(SnapshotError, match="is missing"):
        load_generator(GOLDENS / "none.pkl")
    with pytest.raises(UserError, match=r"class of this network: 0 to 1, got None"):
        load_generator(GOLDENS / "c.pkl").synthesize([0], 1.0)
    with pytest.raises(UserError, match="size and channels"):
        StubGenerator(0, 1)


def test_pixels_that_are_not_finite_are_refused() -> None:
    generator = load_generator(GOLDENS / "tiny.pkl")
    with pytest.raises(UserError, match="non-finite"):
        generator.generate([0], 1e38)


def test_a_stub_image_is_the_same_everywhere() -> None:
    image = StubGenerator(4, 1).generate([7], 0.7)[0, :, :, 0]
    assert image[:2].tolist() == [[81, 136, 88, 139], [80, 129, 78, 137]]


def test_the_package_names_its_generators() -> None:
    assert gan_worker.load_generator is load_generator
    assert gan_worker.StubGenerator is StubGenerator
    assert {"load_generator", "StubGenerator"} <= set(dir(gan_worker))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gan_worker.nothing
