"""What all tests share: a cache of their own, hostile paths, hypothesis without a clock."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from fgaug.cli import app

# no deadline: shared machines stall; no database: tests leave nothing in the clone
settings.register_profile("fgaug", deadline=None, database=None)
settings.load_profile("fgaug")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep decoded pixels out of the user's cache."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGAUG_CACHE", str(cache))
        yield cache


@pytest.fixture
def odd_root(tmp_path: Path) -> Path:
    """Return a folder whose path has blanks, quotes, brackets, a percent sign and an umlaut."""
    root = tmp_path / 'it\'s a "tëst" [1] 100% #x ?y'
    root.mkdir()
    return root


@pytest.fixture
def fgaug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process: arguments -> (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fgaug", *map(str, arguments)])
        monkeypatch.delenv("FGAUG_DEBUG", raising=False)
        code = 0
        try:
            app.main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
