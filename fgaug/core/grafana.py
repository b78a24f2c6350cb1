"""fgaug's Grafana dashboard, put where Ray's provisioning of Grafana finds it.

Looked at in Ray 2.60: the dashboard's head node writes a configuration for Grafana into
`<session>/metrics/grafana` and dashboards beside it, before its address is known. Grafana reads
every dashboard in that folder, ours too.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from fgaug.core.files import write_text
from fgaug.core.machine import ray_folder
from fgaug.errors import UserError

NAME = "fgaug_grafana_dashboard.json"
RAY_SETTING = "RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR"  # Ray's, in place of the session's folder


def dashboard() -> str:
    """Return the dashboard as Grafana's JSON."""
    return (resources.files("fgaug.core") / "grafana_dashboard.json").read_text("utf-8")


def provisioned(session: Path) -> Path:
    """Return the folder of dashboards that the Grafana of a Ray session reads."""
    given = os.environ.get(RAY_SETTING)
    return Path(given) if given else session / "metrics" / "grafana" / "dashboards"


def latest_session() -> Path:
    """Return the folder of the latest Ray session on this machine, which may not exist."""
    usual = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"
    return (ray_folder() or usual) / "session_latest"


def provide(folder: Path | None = None) -> Path:
    """Write the dashboard into a folder and return its path.

    Args:
        folder: created if missing; None: that of the latest Ray session on this machine.

    Raises:
        UserError: no Ray session with a dashboard, or the folder is not writable.
    """
    chosen = folder or provisioned(latest_session())
    if folder is None and not chosen.is_dir():
        raise UserError(
            f"No Ray cluster with a dashboard has run on this machine (no folder {chosen}). Start "
            "a search or `ray start --head`, or give a folder: `fgaug grafana FOLDER`."
        )
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        write_text(chosen / NAME, dashboard())
    except OSError as error:
        raise UserError(
            f"{chosen} cannot be written ({error.strerror}). Give another folder."
        ) from None
    return chosen / NAME
