"""Mixes: each mode to the letter, on a dataset small enough to count by hand."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgaug.bank import Demand
from fgaug.errors import GridError
from fgaug.grid.cells import Cell
from fgaug.grid.recipe import Budget, Recipe
from fgaug.runs import mix
from fgaug.runs.mix import MixPlan, plan
from fgaug.runs.reals import MAX_SHARES, Reals

LABELS = ("dbp", "trv")
N = {"dbp": 20, "trv": 10}  # training images
FLAGGED = {"dbp": 12, "trv": 4}  # of them with gan flag, where there are flags
POOL = 100


def manifest(flags: bool = False) -> pd.DataFrame:
    """Return 30 training images of patients with three images each, and 10 held out."""
    rows: list[dict[str, Any]] = []
    for label in LABELS:
        for number in range(N[label] + 5):
            name = f"{label}{number:02d}"
            train = number < N[label]
            rows.append(
                {
                    "image_id": name,
                    "label": label,
                    "group": number // 3 + (100 if label == "trv" else 0),
                    "split": "train" if train else ("valid", "test")[number % 2],
                    "gan": flags and train and number < FLAGGED[label],
                    "sha256": hashlib.sha256(name.encode()).hexdigest(),
                }
            )
    frame = pd.DataFrame(rows)
    return frame.sort_values("image_id", ignore_index=True)


def cell(mode: str, **changes: Any) -> Cell:
    values: dict[str, Any] = {
        "mode": mode,
        "psi": None if mode in ("baseline", "oversample", "drop") else 0.7,
        "ratio": None if mode in ("baseline", "drop") else 1.0,
        "fakes": None,
        "remove": (("dbp", 3.0), ("trv", 2.0)) if mode in ("replacement", "drop") else None,
        "remove_by": "image",
        "seed": 1,
        "recipe": Recipe(),
        "budget": Budget(),
        "axes": (),
        "cell_id": "c",
        "arm_id": "a",
        **changes,
    }
    return Cell(**values)


PLAIN, FLAGS = Reals(manifest(), LABELS), Reals(manifest(flags=True), LABELS)


def labels_of(made: MixPlan, frame: pd.DataFrame) -> dict[str, int]:
    return dict(Counter(frame.loc[made.real, "label"]))


def counts(made: MixPlan) -> dict[str, int]:
    return {label: len(z_seeds) for label, z_seeds in made.fakes.items()}


def refusal(wanted: Cell, reals: Reals = PLAIN, pool: int = POOL) -> str:
    with pytest.raises(GridError) as caught:
        plan(wanted, reals, pool)
    (problem,) = caught.value.problems
    assert mix.check(wanted, reals, pool) == [problem]
    return problem


class TestBaseline:
    @pytest.mark.parametrize("reals", [PLAIN, FLAGS], ids=["plain", "flags"])
    def test_all_training_images_and_nothing_else(self, reals: Reals) -> None:
        made = plan(cell("baseline"), reals, POOL)
        frame = manifest()
        assert sorted(made.real) == np.flatnonzero(frame["split"] == "train").tolist()
        assert (made.n_real, made.n_fake, made.n_dropped) == (30, 0, 0)
        assert made.real.dtype == np.int64


class TestFakes:
    @pytest.mark.parametrize(
        ("reals", "ratio", "expected"),
        [
            (PLAIN, 1.0, {"dbp": 20, "trv": 10}),
            (PLAIN, 0.5, {"dbp": 10, "trv": 5}),
            (PLAIN, 0.33, {"dbp": 6, "trv": 3}),
            (PLAIN, 1.15, {"dbp": 23, "trv": 11}),
            (PLAIN, 0.7, {"dbp": 14, "trv": 7}),
            (PLAIN, 5.0, {"dbp": 100, "trv": 50}),
            (PLAIN, 0.01, {}),
            (FLAGS, 1.0, {"dbp": 12, "trv": 4}),
            (FLAGS, 0.5, {"dbp": 6, "trv": 2}),
            (FLAGS, 8.0, {"dbp": 96, "trv": 32}),
        ],
    )
    def test_counts(self, reals: Reals, ratio: float, expected: dict[str, int]) -> None:
        made = plan(cell("augmentation", ratio=ratio), reals, POOL)
        assert counts(made) == expected
        assert (made.n_real, made.n_fake) == (30, sum(expected.values()))
        for z_seeds in made.fakes.values():
            assert len(set(z_seeds)) == len(z_seeds)
            assert z_seeds.min() >= 1
            assert z_seeds.max() <= POOL

    def test_a_count_by_label(self) -> None:
        asked = (("dbp", 7), ("trv", 0))
        for reals in (PLAIN, FLAGS):
            made = plan(cell("augmentation", ratio=None, fakes=asked), reals, POOL)
            assert counts(made) == {"dbp": 7}

    def test_the_whole_pool_is_drawn_once(self) -> None:
        made = plan(cell("augmentation", ratio=5.0), PLAIN, POOL)
        assert sorted(made.fakes["dbp"]) == list(range(1, POOL + 1))

    def test_the_pool_bounds_the_ratio(self) -> None:
        assert refusal(cell("augmentation", ratio=5.1)) == (
            "`pool` holds 100 fakes per label, but augmentation psi 0.7 ratio 5.1 seed 1 needs "
            "102 of `dbp` (20 real). Raise `pool` or lower the ratio"
        )

    def test_seeds_and_labels_draw_apart(self) -> None:
        one, two = (plan(cell("augmentation", seed=seed), PLAIN, POOL) for seed in (1, 2))
        assert set(one.fakes["dbp"]) != set(two.fakes["dbp"])
        assert one.fakes["dbp"][:10].tolist() != one.fakes["trv"].tolist()

    def test_psi_and_mode_change_no_draw(self) -> None:
        """Arms are compared on the same z_seeds."""
        modes = ("augmentation", "replacement", "synthetic")
        drawn = [
            plan(cell(mode, psi=psi), PLAIN, POOL).fakes for mode in modes for psi in (0.3, 1)
        ]
        for fakes in drawn[1:]:
            assert all((fakes[label] == drawn[0][label]).all() for label in LABELS)

    def test_draws_never_change(self) -> None:
        """Other draws would be other trials under the same name: raise RECIPE_VERSION then."""
        made = plan(cell("replacement"), PLAIN, POOL)
        assert made.fakes["trv"].tolist() == [85, 67, 64, 41, 49, 37, 30, 20, 39, 28]
        gone = manifest().loc[removed(made), "image_id"].tolist()
        assert gone == ["dbp04", "dbp05", "dbp09", "trv00", "trv06"]
        twin = plan(cell("oversample", ratio=0.1), PLAIN, POOL)
        assert manifest().loc[twin.real[30:], "image_id"].tolist() == ["dbp14", "dbp03", "trv05"]

    def test_a_count_is_cut_as_python_multiplies(self) -> None:
        """0.29 * 100 is 28.999999999999996 in binary, so int(n x ratio) is 28."""
        rows = pd.DataFrame({"image_id": range(100)}).assign(
            label="dbp", group=0, split="train", gan=False, sha256="x"
        )
        reals = Reals(rows, ("dbp",))
        assert mix.fakes_wanted(cell("augmentation", ratio=0.29), reals, "dbp") == 28

    @given(small=st.floats(0.05, 5), large=st.floats(0.05, 5), seed=st.integers(0, 2**32 - 1))
    def test_a_small_draw_is_a_prefix_of_a_large_one(
        self, small: float, large: float, seed: int
    ) -> None:
        few, many = (
            plan(cell("augmentation", ratio=ratio, seed=seed), PLAIN, POOL).fakes
            for ratio in sorted((small, large))
        )
        for label, z_seeds in few.items():
            assert (many[label][: len(z_seeds)] == z_seeds).all()


def removed(made: MixPlan) -> list[int]:
    """Return the training rows that a plan leaves out."""
    frame = manifest()
    return sorted(set(np.flatnonzero(frame["split"] == "train")) - set(made.real.tolist()))


class TestRemovals:
    def test_counts(self) -> None:
        made = plan(cell("replacement"), PLAIN, POOL)
        gone = manifest().loc[removed(made)]
        assert dict(Counter(gone["label"])) == {"dbp": 3, "trv": 2}
        assert (made.n_real, made.n_fake, made.n_dropped) == (25, 30, 5)

    def test_images_of_the_gan_stay(self) -> None:
        frame = manifest(flags=True)
        every = plan(cell("replacement", remove=(("dbp", "all"), ("trv", "all"))), FLAGS, POOL)
        assert not frame.loc[removed(every), "gan"].any()
        assert frame.loc[every.real, "gan"].all()
        assert labels_of(every, frame) == FLAGGED
        assert every.n_dropped == 30 - 16

    def test_all_without_flags_is_all(self) -> None:
        made = plan(cell("replacement", remove=(("dbp", "all"), ("trv", 0.5))), PLAIN, POOL)
        assert labels_of(made, manifest()) == {"trv": 5}

    def test_a_share_is_of_what_may_be_removed(self) -> None:
        share = (("dbp", 0.5), ("trv", 0.5))
        assert plan(cell("drop", remove=share), PLAIN, POOL).n_dropped == 10 + 5
        assert plan(cell("drop", remove=share), FLAGS, POOL).n_dropped == 4 + 3

    def test_one_is_a_count(self) -> None:
        assert plan(cell("drop", remove=(("dbp", 1.0), ("trv", 1.0))), PLAIN, POOL).n_dropped == 2

    def test_too_many(self) -> None:
        asked = cell("replacement", remove=(("dbp", 9.0), ("trv", 1.0)))
        assert plan(asked, PLAIN, POOL).n_dropped == 10
        assert refusal(asked, FLAGS) == (
            "`remove` takes 9 images of `dbp`, but the training set has 8 without the gan flag. "
            "Lower it, or prepare the dataset with `--extend`"
        )
        asked = cell("drop", remove=(("dbp", 21.0), ("trv", 1.0)))
        assert "the training set has 20. Lower it" in refusal(asked)

    def test_drop_is_its_replacement_without_fakes(self) -> None:
        for reals in (PLAIN, FLAGS):
            with_fakes, without = (plan(cell(m), reals, POOL) for m in ("replacement", "drop"))
            assert (with_fakes.real == without.real).all()
            assert with_fakes.n_dropped == without.n_dropped == 5
            assert (with_fakes.n_fake > 0, without.n_fake) == (True, 0)

    @pytest.mark.parametrize("wanted", [1, 3, 4, 11, 20])
    def test_whole_patients(self, wanted: int) -> None:
        frame = manifest()
        remove = (("dbp", float(wanted)), ("trv", 1.0))
        made = plan(cell("replacement", remove=remove, remove_by="group"), PLAIN, POOL)
        kept = set(frame.loc[made.real, "group"])
        gone = frame.loc[removed(made)]
        assert not kept & set(gone["group"])
        n_dbp = int((gone["label"] == "dbp").sum())
        assert wanted <= n_dbp < wanted + 3
        assert made.n_dropped == len(gone)

    @given(few=st.integers(1, 20), many=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
    def test_a_small_removal_is_part_of_a_large_one(self, few: int, many: int, seed: int) -> None:
        few, many = sorted((few, many))
        for by in ("image", "group"):
            small, large = (
                plan(
                    cell(
                        "drop", remove=(("dbp", float(k)), ("trv", 1.0)), seed=seed, remove_by=by
                    ),
                    PLAIN,
                    POOL,
                )
                for k in (few, many)
            )
            assert set(removed(small)) <= set(removed(large))


def patients(frame: pd.DataFrame, rows: Any) -> set[int]:
    return set(frame.loc[rows, "group"])


def shared(fraction: float, reals: Reals = PLAIN, **changes: Any) -> MixPlan:
    return plan(cell("baseline", real_fraction=fraction, **changes), reals, POOL)


seeds = st.integers(0, 2**32 - 1)
shares = st.floats(0.2, 1)


class TestShareOfThePatients:
    """7 patients of dbp and 4 of trv: a share below 2/11 is too small for both labels."""

    @given(fraction=shares, seed=seeds, flags=st.booleans())
    def test_whole_patients_and_as_many_as_said(
        self, fraction: float, seed: int, flags: bool
    ) -> None:
        frame = manifest(flags)
        made = shared(fraction, Reals(frame, LABELS), seed=seed)
        train = frame["split"] == "train"
        kept = patients(frame, made.real)
        assert len(kept) == max(1, round(fraction * 11))
        assert sorted(made.real) == np.flatnonzero(train & frame["group"].isin(kept)).tolist()
        assert (made.n_real + made.n_dropped, made.n_fake) == (30, 0)
        assert set(labels_of(made, frame)) == set(LABELS)

    @given(one=shares, two=shares, seed=seeds, flags=st.booleans())
    def test_a_small_share_is_part_of_a_large_one(
        self, one: float, two: float, seed: int, flags: bool
    ) -> None:
        reals = FLAGS if flags else PLAIN
        small, large = (shared(share, reals, seed=seed) for share in sorted((one, two)))
        assert set(small.real) <= set(large.real)

    @given(fraction=shares, seed=seeds)
    def test_patients_of_the_gan_stay_longest(self, fraction: float, seed: int) -> None:
        frame = manifest(flags=True)
        train = frame[frame["split"] == "train"]
        with_flag = set(train.loc[train["gan"], "group"])  # 4 of dbp, 2 of trv
        made = shared(fraction, FLAGS, seed=seed)
        kept = patients(frame, made.real)
        assert kept <= with_flag or with_flag <= kept
        gone = train[~train.index.isin(made.real)]
        assert sorted(made.dropped) == sorted(gone.index)
        assert bool(gone["gan"].any()) == (len(kept) < len(with_flag))

    def test_shares_never_change(self) -> None:
        """Other draws would be other trials under the same name: raise RECIPE_VERSION then."""
        assert sorted(patients(manifest(), shared(0.5).real)) == [0, 2, 4, 5, 100, 101]
        assert sorted(patients(manifest(), shared(0.5, FLAGS).real)) == [0, 1, 2, 3, 100, 101]

    def test_seeds_keep_other_patients(self) -> None:
        drawn = [frozenset(patients(manifest(), shared(0.5, seed=n).real)) for n in range(20)]
        assert len(set(drawn)) > 10

    @given(seed=seeds)
    def test_labels_keep_their_proportion(self, seed: int) -> None:
        rows = [("a", n) for n in range(90)] + [("b", 1000 + n) for n in range(10)]
        frame = pd.DataFrame(rows, columns=["label", "group"]).assign(
            image_id=range(100), split="train", gan=False, sha256="x"
        )
        made = shared(0.5, Reals(frame, ("a", "b")), seed=seed)
        assert Counter(frame.loc[made.real, "label"]) == {"a": 45, "b": 5}

    def test_all_is_the_default(self) -> None:
        assert shared(1.0).real.tolist() == plan(cell("baseline"), PLAIN, POOL).real.tolist()

    def test_too_few_for_every_label(self) -> None:
        assert refusal(cell("baseline", real_fraction=0.1)) == (
            "`real_fraction` 0.1 keeps 1 of 11 patients, but at seed 1 at least 2 are needed to "
            "cover all 2 labels. Raise it, for example to 0.182"
        )
        assert len(patients(manifest(), shared(0.182).real)) == 2

    def test_a_patient_may_have_every_label(self) -> None:
        frame = manifest()
        frame["group"] = frame["group"] % 100
        made = shared(0.01, Reals(frame[frame["group"] < 3], LABELS))
        assert len(patients(frame, made.real)) == 1
        assert labels_of(made, frame) == {"dbp": 3, "trv": 3}

    def test_ratios_count_the_reals_of_all_patients(self) -> None:
        for reals in (PLAIN, FLAGS):
            asked = cell("augmentation", ratio=2.0, real_fraction=0.3)
            whole = plan(cell("augmentation", ratio=2.0), reals, POOL)
            made = plan(asked, reals, POOL)
            assert counts(made) == counts(whole)
            assert made.n_real < whole.n_real
            assert mix.fakes_wanted(asked, reals, "dbp") == counts(whole)["dbp"]

    def test_removals_come_after_the_share(self) -> None:
        remove = (("dbp", "all"), ("trv", 1.0))
        share = shared(0.5)
        made = plan(cell("replacement", remove=remove, real_fraction=0.5), PLAIN, POOL)
        assert set(made.real) < set(share.real)
        assert labels_of(made, manifest()) == {"trv": labels_of(share, manifest())["trv"] - 1}
        left = labels_of(share, manifest())["dbp"]
        asked = cell("drop", remove=(("dbp", left + 1.0), ("trv", 1.0)), real_fraction=0.5)
        assert refusal(asked) == (
            f"`remove` takes {left + 1} images of `dbp`, but the training set has {left} at "
            "`real_fraction` 0.5 and seed 1. Lower it, or prepare the dataset with `--extend`"
        )

    @pytest.mark.parametrize("reals", [PLAIN, FLAGS], ids=["plain", "flags"])
    def test_twins_have_the_patients_of_their_arm(self, reals: Reals) -> None:
        remove = (("dbp", 1.0), ("trv", 1.0))
        if reals.any_flag:
            remove = (("dbp", 0.5), ("trv", 0.5))
        arm, drop, oversample = (
            plan(cell(mode, remove=remove, real_fraction=0.8), reals, POOL)
            for mode in ("replacement", "drop", "oversample")
        )
        assert (arm.real == drop.real).all()
        assert set(oversample.real) == set(arm.real)
        assert oversample.n_real == arm.n_real + arm.n_fake
        assert arm.n_dropped == drop.n_dropped == oversample.n_dropped > 2

    def test_what_is_left_out(self) -> None:
        flagged = manifest(flags=True)["gan"]
        assert not flagged[plan(cell("replacement"), FLAGS, POOL).dropped].any()
        assert len(plan(cell("replacement"), PLAIN, POOL).dropped) == 5
        assert not len(plan(cell("synthetic", real_fraction=0.2), FLAGS, POOL).dropped)

    @given(order=st.permutations(range(40)), seed=seeds)
    def test_the_order_of_the_manifest_changes_nothing(self, order: list[int], seed: int) -> None:
        frame = manifest(flags=True)
        other = frame.iloc[order].reset_index(drop=True)
        here = shared(0.4, Reals(frame, LABELS), seed=seed).real
        there = shared(0.4, Reals(other, LABELS), seed=seed).real
        assert set(frame.loc[here, "sha256"]) == set(other.loc[there, "sha256"])

    def test_tables_of_shares_are_few(self) -> None:
        reals = Reals(manifest(), LABELS)
        for seed in range(3 * MAX_SHARES):
            shared(0.5, reals, seed=seed)
        assert len(reals._shares) <= MAX_SHARES


class TestOversample:
    @pytest.mark.parametrize("ratio", [0.25, 1.0, 2.5, 5.0])
    @pytest.mark.parametrize("reals", [PLAIN, FLAGS], ids=["plain", "flags"])
    def test_as_large_as_its_arm(self, reals: Reals, ratio: float) -> None:
        twin = plan(cell("oversample", ratio=ratio), reals, POOL)
        arm = plan(cell("augmentation", ratio=ratio), reals, POOL)
        assert twin.n_real == arm.n_real + arm.n_fake
        assert (twin.n_fake, twin.n_dropped, dict(twin.fakes)) == (0, 0, {})
        frame = manifest()
        for label in LABELS:
            arm_size = N[label] + counts(arm).get(label, 0)
            assert labels_of(twin, frame)[label] == arm_size
            times = Counter(twin.real[frame.loc[twin.real, "label"] == label])
            # whole passes first: no image is repeated twice more often than another
            assert len(times) == N[label]
            assert max(times.values()) - min(times.values()) <= 1

    def test_a_twin_of_replacement_repeats_what_is_left(self) -> None:
        remove = (("dbp", 15.0), ("trv", 5.0))
        twin = plan(cell("oversample", remove=remove), PLAIN, POOL)
        arm = plan(cell("replacement", remove=remove), PLAIN, POOL)
        assert set(twin.real) == set(arm.real)
        assert twin.n_real == arm.n_real + arm.n_fake
        assert twin.n_dropped == arm.n_dropped == 20

    def test_nothing_left_to_repeat(self) -> None:
        remove = (("dbp", "all"), ("trv", 1.0))
        assert refusal(cell("oversample", remove=remove)) == (
            "`controls: oversample` has no reals of `dbp` left to repeat for oversample ratio 1 "
            "remove dbp all, trv 1 seed 1. Remove fewer, or drop the control"
        )


class TestConventions:
    """Each of these fails where real and fake are swapped."""

    def test_synthetic_has_no_real(self) -> None:
        made = plan(cell("synthetic", ratio=2.0), FLAGS, POOL)
        assert (made.n_real, made.n_fake, made.n_dropped) == (0, 32, 0)
        assert counts(made) == {"dbp": 24, "trv": 8}

    def test_reals_are_rows_and_fakes_are_z_seeds(self) -> None:
        """Rows count from 0 and stay below the manifest's length; z_seeds reach the pool's end."""
        made = plan(cell("augmentation", ratio=500.0), FLAGS, pool=6000)
        assert made.real.max() < 40
        assert made.fakes["dbp"].max() == 6000
        assert sorted(made.fakes["dbp"]) == list(range(1, 6001))
        assert (manifest().loc[made.real, "split"] == "train").all()

    def test_removal_takes_reals_and_adds_none(self) -> None:
        less, more = (
            plan(cell("replacement"), FLAGS, POOL),
            plan(cell("augmentation"), FLAGS, POOL),
        )
        assert less.n_real == more.n_real - 5
        assert less.n_fake == more.n_fake

    def test_ratios_count_before_removal(self) -> None:
        every = (("dbp", "all"), ("trv", "all"))
        assert counts(plan(cell("replacement", remove=every), PLAIN, POOL)) == N

    def test_ratios_count_reals_of_the_gan_and_removal_the_others(self) -> None:
        frame = manifest(flags=True)
        frame["gan"] = ~frame["gan"] & (frame["split"] == "train")
        swapped = Reals(frame, LABELS)
        assert FLAGS.count("dbp") == len(swapped.removable("dbp")) == 12
        assert swapped.count("dbp") == len(FLAGS.removable("dbp")) == 8
        assert counts(plan(cell("augmentation"), swapped, POOL)) == {"dbp": 8, "trv": 6}

    def test_held_out_images_train_nothing(self) -> None:
        held_out = set(np.flatnonzero(manifest()["split"] != "train"))
        for mode in ("baseline", "augmentation", "replacement", "oversample", "drop"):
            assert not held_out & set(plan(cell(mode), PLAIN, POOL).real)


class TestOrder:
    @settings(max_examples=25)
    @given(order=st.permutations(range(40)), flags=st.booleans())
    def test_the_order_of_the_manifest_changes_nothing(
        self, order: list[int], flags: bool
    ) -> None:
        frame = manifest(flags)
        shuffled = frame.iloc[order].reset_index(drop=True)
        for mode in ("baseline", "replacement", "oversample", "drop"):
            for by in ("image", "group"):
                here = plan(cell(mode, remove_by=by), Reals(frame, LABELS), POOL)
                there = plan(cell(mode, remove_by=by), Reals(shuffled, LABELS), POOL)
                one, two = frame.loc[here.real, "sha256"], shuffled.loc[there.real, "sha256"]
                assert one.tolist() == two.tolist()
                assert all((here.fakes[k] == there.fakes[k]).all() for k in here.fakes)

    def test_what_else_the_dataset_holds_changes_no_fake(self) -> None:
        frame = manifest()
        more = frame.assign(split=frame["split"].replace("valid", "train"))
        here = plan(cell("augmentation"), PLAIN, POOL).fakes
        there = plan(cell("augmentation"), Reals(more, LABELS), POOL).fakes
        assert all((there[k][: len(here[k])] == here[k]).all() for k in LABELS)


class TestSizes:
    def test_cells_with_one_key_have_as_many_images(self) -> None:
        found: dict[Hashable, set[tuple[int, int, int]]] = {}
        changes = itertools.product(
            ("baseline", "augmentation", "replacement", "synthetic", "oversample", "drop"),
            (0.5, 1.0),
            (1.0, 0.6),
            ("image", "group"),
            (1, 2, 3),
        )
        for mode, psi, share, by, seed in changes:
            each = cell(mode, real_fraction=share, remove_by=by, seed=seed)
            each = replace(each, psi=psi if each.uses_fakes else None)
            made = mix.sizes(each, PLAIN, POOL)
            of_key = found.setdefault(mix.same_sizes(each), set())
            of_key.add((made.n_real, made.n_fake, made.n_dropped))
        assert all(len(sizes) == 1 for sizes in found.values())
        assert len(found) < 6 * 2 * 2 * 3  # psi, and mostly the seed, do not count


class TestDemand:
    def test_the_union_over_cells(self) -> None:
        cells = [
            cell(mode, psi=psi, ratio=ratio, seed=seed)
            for mode in ("augmentation", "synthetic")
            for psi in (0.5, 1.0)
            for ratio in (0.5, 2.0)
            for seed in (1, 2, 3)
        ]
        others = [cell("baseline"), cell("oversample", ratio=5.0), cell("drop")]
        found = mix.demand([*cells, *others], {"dataset": PLAIN}, POOL)
        assert set(found.wanted) == {(label, psi) for label in LABELS for psi in (0.5, 1.0)}
        for (label, psi), z_seeds in found.wanted.items():
            expected: set[int] = set()
            for each in cells:
                if each.psi == psi:
                    expected |= set(plan(each, PLAIN, POOL).fakes[label].tolist())
            assert z_seeds.tolist() == sorted(expected)
        assert found.count == sum(len(z_seeds) for z_seeds in found.wanted.values())

    def test_several_sets_at_once_are_each_as_alone(self) -> None:
        first = [cell("augmentation", psi=psi, seed=seed) for psi in (0.5, 1.0) for seed in (1, 2)]
        second = [first[1], cell("synthetic", psi=0.5, ratio=2.0, seed=1)]
        of = {"dataset": PLAIN}
        for cells, found in zip(
            (first, second, []), mix.demands([first, second, []], of, POOL), strict=True
        ):
            alone = Demand.of(part for each in cells for part in plan(each, PLAIN, POOL).drawn)
            assert found.wanted.keys() == alone.wanted.keys()
            for key, z_seeds in alone.wanted.items():
                np.testing.assert_array_equal(found.wanted[key], z_seeds)
                assert found.wanted[key].dtype == z_seeds.dtype

    def test_no_pool_is_ordered_once_all_of_it_is_needed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        ordered = mix.order

        def counted(cell: Cell, label: str, pool: int) -> np.ndarray:
            asked.append(cell.seed)
            return ordered(cell, label, pool)

        monkeypatch.setattr(mix, "order", counted)
        fakes = (("dbp", POOL), ("trv", 1))
        many = [cell("augmentation", ratio=None, fakes=fakes, seed=seed) for seed in range(9)]
        found = mix.demand(many, {"dataset": PLAIN}, POOL)
        assert found.wanted["dbp", 0.7].tolist() == list(range(1, POOL + 1))
        assert asked.count(0) == 2  # once a label
        assert all(asked.count(seed) == 1 for seed in range(1, 9))  # `trv` alone

    def test_a_draw_larger_than_the_pool_is_refused(self) -> None:
        with pytest.raises(GridError, match="Raise `pool` or lower the ratio"):
            mix.demand([cell("augmentation", ratio=POOL)], {"dataset": PLAIN}, POOL)

    def test_nothing_for_cells_without_fakes(self) -> None:
        assert mix.demand([cell("baseline"), cell("drop")], PLAIN, POOL).count == 0


class TestCheck:
    def test_fine(self) -> None:
        for mode in ("baseline", "augmentation", "replacement", "synthetic", "oversample", "drop"):
            assert mix.check(cell(mode), FLAGS, POOL) == []

    def test_a_label_without_a_training_image(self) -> None:
        cure = "leaves no training images of `trv`. Add more fakes, or remove fewer reals"
        asked = cell("synthetic", ratio=None, fakes=(("dbp", 5), ("trv", 0)))
        assert mix.check(asked, PLAIN, POOL) == [
            f"synthetic psi 0.7 fakes dbp 5, trv 0 seed 1 {cure}"
        ]
        asked = cell("drop", remove=(("dbp", 1.0), ("trv", "all")))
        assert mix.check(asked, PLAIN, POOL) == [f"drop remove dbp 1, trv all seed 1 {cure}"]

    def test_an_arm_without_a_fake(self) -> None:
        asked = cell("augmentation", ratio=0.01)
        assert mix.check(asked, PLAIN, POOL) == [
            "augmentation psi 0.7 ratio 0.01 seed 1 adds no fakes. "
            "Raise the ratio or the counts, or drop the mode"
        ]
