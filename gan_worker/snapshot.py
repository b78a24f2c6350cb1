"""The old name of `gan_worker.files.snapshot`, for scripts that were written before the rooms."""

from gan_worker.files.snapshot import Snapshot as Snapshot
from gan_worker.files.snapshot import read_snapshot as read_snapshot
