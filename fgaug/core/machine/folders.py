"""Folders that programs write to unasked, where a batch system gives none.

Ray keeps sockets below TMPDIR, whose paths the system cuts at 107 bytes, and a token below HOME;
both fail in ways that name neither. A user without an entry in the password file has no HOME.
"""

from __future__ import annotations

import getpass
import logging
import os
import secrets
import stat
import tempfile
from pathlib import Path

from fgaug.errors import UserError

SOCKET_BYTES = 107  # of a socket's path, on Linux
# what Ray puts behind its folder, with the longest process id
_SOCKET = "/ray/session_2026-11-30_19-00-15_348852_4194304/sockets/plasma_store"
MAX_FOLDER = SOCKET_BYTES - len(_SOCKET)
_FALLBACKS = ("/tmp", "/var/tmp", "/dev/shm")  # the last is memory, and tiny files
_log = logging.getLogger("fgaug")


def settle() -> None:
    """Give this process and its children a HOME and a name where they have none to write to.

    A home that exists is kept, as weights may be cached there, and what is written elsewhere is
    moved one by one. Nothing is done where the home can be written.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"  # libraries name their caches by it
    home = _home()
    if home is not None and can_write(home):
        return
    instead = private_folder()
    if home is None or not home.is_dir():
        what = "HOME is not set" if home is None else f"HOME ({home}) is no folder"
        os.environ["HOME"] = str(instead)
        _log.warning(f"{what}: {instead} is used for it. Set HOME to a folder that can be written")
        return
    moved = {
        "MPLCONFIGDIR": (home / ".config" / "matplotlib", instead / "matplotlib"),
        "FGAUG_CACHE": (home / ".cache" / "fgaug", instead / "cache"),
    }
    names = [name for name, (usual, _) in moved.items() if _moves(name, usual)]
    for name in names:
        os.environ[name] = str(moved[name][1])
    if names:
        _log.warning(
            f"HOME ({home}) cannot be written: {instead} is used for {', '.join(names)}. Set HOME "
            "to a folder that can be written, or these to folders of yours"
        )


def ray_token() -> None:
    """Give Ray a token where it cannot write its own below HOME; only this user can read it."""
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return
    home = _home()
    usual = None if home is None else home / ".ray" / "auth_token"
    if usual is not None and (usual.is_file() or can_write(_existing(usual))):
        return
    token = private_folder() / "ray_auth_token"
    if not token.exists():
        _write_secret(token)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    _log.warning(f"{usual} cannot be written: Ray's token is in {token}")


def ray_folder() -> Path | None:
    """Return where Ray is to keep its sockets and logs; None where its own choice is good.

    Raises:
        UserError: no folder is short enough and can be written.
    """
    name = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    given = os.environ.get(name)
    usual = Path(given or "/tmp")  # Ray's own choice
    why = _why_not(usual)
    if why is None:
        return None
    for other in map(Path, _FALLBACKS):
        if other != usual and _why_not(other) is None:
            folder = other / "ray"
            _log.warning(f"{name if given else usual} is not used by Ray: {why}. It uses {folder}")
            return folder
    raise UserError(
        f"Ray needs a folder for its sockets: {why}. Set RAY_TMPDIR to a folder that can be "
        f"written and whose path has at most {MAX_FOLDER} characters."
    )


def private_folder() -> Path:
    """Return a folder below the temporary one that only this user reads, the same each time.

    Raises:
        UserError: there is no temporary folder.
    """
    try:
        root = Path(tempfile.gettempdir())
        folder = root / f"fgaug-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if ours and not found.st_mode & 0o077 and can_write(folder):
            return folder
        return Path(tempfile.mkdtemp(prefix="fgaug-"))  # somebody else made the other
    except OSError as error:
        raise UserError(
            f"There is no folder for temporary files ({error}). Set TMPDIR to a folder that can "
            "be written."
        ) from None


def can_write(folder: Path) -> bool:
    """Return whether files can be made in a folder; one without a name is, for a moment."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor an entry in the password file
        return None


def _moves(name: str, usual: Path) -> bool:
    return not os.environ.get(name) and not (usual.is_dir() and can_write(usual))


def _write_secret(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


def _why_not(folder: Path) -> str | None:
    """Return why Ray cannot use a folder; None where it can."""
    length = len(os.fsencode(folder.absolute()))
    if length > MAX_FOLDER:
        return (
            f"{folder} has {length} characters, and the paths of sockets below it may have "
            f"{SOCKET_BYTES} (at most {MAX_FOLDER} are left for it)"
        )
    if not folder.is_dir():
        return f"{folder} is no folder"
    if not can_write(folder):
        return f"{folder} cannot be written"
    own = folder / "ray"
    if own.exists() and not can_write(own):
        return f"{own} is another user's"
    return None


def _existing(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())
