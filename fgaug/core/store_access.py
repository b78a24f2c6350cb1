"""The credentials of object stores, for processes on nodes that have none of their own.

They are the variables that the stores' own tools read. They travel inside Ray from the driver to
its trials and workers, and are never written to a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

_GROUPS = (  # a machine that sets one of a group has its own
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    ("AWS_REGION", "AWS_DEFAULT_REGION"),
    ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    ("AWS_EC2_METADATA_DISABLED",),
)


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """The variables of one process; their values do not show in its repr."""

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_this_process(cls) -> StoreAccess:
        """Return what this process uses."""
        names = (name for group in _GROUPS for name in group)
        return cls({name: os.environ[name] for name in names if os.environ.get(name)})

    def use(self) -> None:
        """Use it in this process, as far as its machine has nothing of its own."""
        for group in _GROUPS:
            if not any(os.environ.get(name) for name in group):
                os.environ.update({n: self.variables[n] for n in group if n in self.variables})
