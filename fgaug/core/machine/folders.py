"""Provide writable home and temporary folders where a batch system does not.

Ray keeps sockets below TMPDIR, with paths limited to 107 bytes by the system, and a token below
HOME; its errors name neither. A user without an entry in the password file has no HOME.
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

SOCKET_BYTES = 107  # limit of a socket's path on Linux
# the longest path that Ray appends to its folder
_SOCKET = "/ray/session_2026-11-30_19-00-15_348852_4194304/sockets/plasma_store"
MAX_FOLDER = SOCKET_BYTES - len(_SOCKET)
_FALLBACKS = ("/tmp", "/var/tmp", "/dev/shm")  # the last is in memory; files are tiny
_log = logging.getLogger("fgaug")


def settle() -> None:
    """Set HOME and a user name for this process and its children if HOME is not writable.

    An existing home is kept, as weights may be cached there; only the variables for written
    folders are redirected. A writable home is left alone.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"  # libraries name their caches after it
    home = _home()
    if home is not None and can_write(home):
        return
    instead = private_folder()
    if home is None or not home.is_dir():
        what = "HOME is not set" if home is None else f"HOME ({home}) is not a folder"
        os.environ["HOME"] = str(instead)
        _log.warning(f"{what}: {instead} is used instead. Set HOME to a writable folder")
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
            f"HOME ({home}) is not writable: {instead} is used for {', '.join(names)}. Set HOME "
            "to a writable folder, or these variables to your own folders"
        )


def ray_token() -> None:
    """Create a token for Ray if HOME is not writable; only this user can read it."""
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
    _log.warning(f"{usual} is not writable: Ray's token is in {token}")


def ray_folder() -> Path | None:
    """Return a folder for Ray's sockets and logs; None if Ray's default works.

    Raises:
        UserError: no folder is both writable and short enough.
    """
    name = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    given = os.environ.get(name)
    usual = Path(given or "/tmp")  # Ray's default
    why = _why_not(usual)
    if why is None:
        return None
    for other in map(Path, _FALLBACKS):
        if other != usual and _why_not(other) is None:
            folder = other / "ray"
            _log.warning(f"{name if given else usual} is not used by Ray: {why}. It uses {folder}")
            return folder
    raise UserError(
        f"Ray needs a folder for its sockets: {why}. Set RAY_TMPDIR to a writable folder with a "
        f"path of at most {MAX_FOLDER} characters."
    )


def private_folder() -> Path:
    """Return a temporary folder readable only by this user, the same at every call.

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
        return Path(tempfile.mkdtemp(prefix="fgaug-"))  # the other one belongs to another user
    except OSError as error:
        raise UserError(
            f"There is no writable folder for temporary files ({error}). Set TMPDIR to a writable "
            "folder."
        ) from None


def can_write(folder: Path) -> bool:
    """Return whether a folder is writable, by creating a nameless temporary file."""
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
    """Return why Ray cannot use a folder, or None."""
    length = len(os.fsencode(folder.absolute()))
    if length > MAX_FOLDER:
        return (
            f"{folder} has {length} characters, but socket paths below it may have {SOCKET_BYTES} "
            f"(at most {MAX_FOLDER} are left for the folder)"
        )
    if not folder.is_dir():
        return f"{folder} is not a folder"
    if not can_write(folder):
        return f"{folder} is not writable"
    own = folder / "ray"
    if own.exists() and not can_write(own):
        return f"{own} belongs to another user"
    return None


def _existing(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())
