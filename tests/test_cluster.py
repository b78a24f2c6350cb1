"""The cluster: on loopback alone, however Ray was imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

LISTENING = """
import psutil, ray
from fgaug import cluster

with cluster.started(cpus=1, dashboard=False):
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                print(connection.laddr.ip)
"""


@pytest.mark.ray
def test_a_program_that_imported_ray_before_is_on_loopback_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=120, check=True
    )
    addresses = done.stdout.split()
    assert addresses
    own = [address.removeprefix("::ffff:") for address in addresses]
    assert all(address.startswith("127.") for address in own), addresses
