"""The settings a calibration goes through, one line of its tables each.  [lines] -> studies"""

from __future__ import annotations

from collections.abc import Iterator

from calibrate_frames import Patients
from calibrate_studies import Line

# seeds of an arm -> images of a patient, and whether each image has a label of its own: planes of
# one head do, views of one tumour do not
IMAGES = {3: (1, False), 5: (3, False), 10: (3, True)}


def lines() -> tuple[Line, ...]:
    """Return all lines, the promised range first, then those beyond it."""
    return (*_grids(), *_others(), *_beyond())


def _grids() -> Iterator[Line]:
    for count in (60, 100, 150, 400):
        for seeds, (images, own) in IMAGES.items():
            patients = Patients(count=count, images=images, own_labels=own)
            yield Line(study="grid", patients=patients, seeds=seeds, arms=12)
    # the baseline with about the square root of the arms times an arm's seeds
    for count, seeds, arms, baseline in (
        (60, 3, 12, 10),
        (150, 5, 12, 17),
        (60, 3, 36, None),
        (100, 3, 36, 18),
        (150, 5, 36, 30),
        (400, 5, 36, None),
        (60, 10, 36, 60),
    ):
        patients = Patients(count=count)
        yield Line(study="grid", patients=patients, seeds=seeds, arms=arms, baseline=baseline)
    few, some = Patients(count=60), Patients(count=150, images=3, own_labels=True)
    for metric in ("accuracy", "brier"):
        yield Line(study="grid", patients=few, seeds=3, arms=12, metric=metric)
        yield Line(study="grid", patients=some, seeds=5, arms=12, metric=metric)
    for metric in ("balanced_accuracy", "log_loss"):
        patients = Patients(count=100)
        yield Line(study="grid", patients=patients, seeds=5, arms=12, metric=metric)


def _others() -> Iterator[Line]:
    for count, images, seeds in (
        (60, 1, 3),
        (60, 3, 10),
        (150, 3, 3),
        (150, 3, 5),
        (150, 1, 10),
        (400, 1, 5),
    ):
        yield Line(study="two", patients=Patients(count=count, images=images), seeds=seeds)
    for count, images, seeds, arms in (
        (60, 1, 3, 12),
        (150, 3, 5, 12),
        (400, 1, 10, 12),
        (100, 1, 5, 36),
    ):
        patients = Patients(count=count, images=images)
        yield Line(study="twin", patients=patients, seeds=seeds, arms=arms)
    for count, images, seeds in ((60, 1, 3), (100, 3, 5), (150, 1, 5), (400, 1, 10)):
        yield Line(study="replacement", patients=Patients(count=count, images=images), seeds=seeds)


def _beyond() -> Iterator[Line]:
    def hard(note: str, patients: Patients, seeds: int = 5, **changes: object) -> Line:
        fields = {"study": "grid", "patients": patients, "seeds": seeds, "arms": 12, "note": note}
        return Line(**{**fields, **changes})  # type: ignore[arg-type]  # keys of Line alone

    yield hard("30 patients", Patients(count=30))
    yield hard("2 seeds", Patients(count=100), 2)
    yield hard("10 of 100 patients have label 1", Patients(count=100, positive=0.1))
    yield hard("20 of 100 patients have label 1", Patients(count=100, positive=0.2))
    yield hard("AUC 0.96, 60 patients", Patients(count=60), auc=0.96)
    yield hard("AUC 0.96, 150 patients", Patients(count=150), auc=0.96)
    yield hard("arms' seeds differ 3 times as much", Patients(count=150), restless=(1.0, 3.0))
    yield hard("baseline's seeds differ 3 times as much", Patients(count=150), restless=(3.0, 1.0))
