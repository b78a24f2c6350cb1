"""W&B: a run for each cell in the group of its arm, and a run with the arm's summary."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from fgaug.study.tune.cell_tracker import CellAsTrial, Tracker
from fgaug.study.tune.tracked import TrackedArm, TrackedSearch

UPLOAD_S = 120  # how long uploads may delay the end of a search
LONGEST = 128  # characters of a group's name


class WandB(Tracker):
    """Logs to W&B, offline below the run's folder.

    Set `WANDB_MODE` or `WANDB_API_KEY` in the environment to log online. Offline, the summary of
    an arm takes 0.1 s (two shared cores).
    """

    where = "W&B"

    def _made(self) -> Any:
        options = _mode()  # Ray's processes may not inherit it
        from ray.air.integrations.wandb import WandbLoggerCallback

        tracker: Any = WandbLoggerCallback(
            project=_project(),
            job_type="seed",
            resume="allow",
            upload_timeout=UPLOAD_S,
            **options,
        )
        tracker.setup()
        self.legs = 0
        return tracker

    def _named(self, cell_id: str) -> CellAsTrial:
        self.legs += 1  # Ray ends the W&B process with each segment
        return self._as_trial(cell_id, self.legs)

    def _group(self, arm: TrackedArm) -> str:
        name = super()._group(arm)
        return name if len(name) <= LONGEST else f"{name[: LONGEST - 16]}... {arm.arm_id}"

    def _summarise(self, search: TrackedSearch) -> None:
        import wandb

        for arm in search.arms:
            run = self._opened(arm.arm_id, arm.name, self._group(arm), "arm", arm.parameters)
            words = {"status": arm.status, "verdict": arm.verdict, "confirmed": arm.confirmed}
            run.summary.update({**words, "note": arm.note, **arm.numbers})
            run.finish()
        run = self._opened("report", f"{self.search}: report", self.search, "report", {})
        run.summary.update({"status": search.status, "verdict": search.lead, **search.counts})
        artifact = wandb.Artifact(f"report-{_digits(self.search)}", type="report")
        for name, path in search.report.items():
            artifact.add_file(str(path), name=name)
        run.log_artifact(artifact)
        run.finish()

    def _opened(
        self, what: str, name: str, group: str, kind: str, config: Mapping[str, Any]
    ) -> Any:
        """Return a run of the search; the same `what` is the same run in every later search."""
        import wandb

        return wandb.init(
            id=_digits(f"{self.search} {what}"),
            name=name,
            group=group,
            job_type=kind,
            config=dict(config),
            project=_project(),
            dir=str(self.run.root.resolve()),
            resume="allow",
            reinit="create_new",  # beside a run that the user's own script has open
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=UPLOAD_S,
                x_disable_stats=True,
                x_disable_meta=True,  # host and command are in the run's environment.json
                x_save_requirements=False,
            ),
            **_mode(),
        )


def _mode() -> dict[str, Any]:
    """Return the mode for `wandb.init`: offline unless the environment has a mode or a key."""
    if "WANDB_API_KEY" not in os.environ:
        os.environ.setdefault("WANDB_MODE", "offline")
    return {"mode": os.environ["WANDB_MODE"]} if "WANDB_MODE" in os.environ else {}


def _project() -> str:
    return os.environ.get("WANDB_PROJECT") or "fgaug"


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
