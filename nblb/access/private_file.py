"""Files that only their own account may read: written whole and with mode 0600, refused when others can read them."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from nblb.errors import NblbError, NotAllowed

LONGEST = 16 * 1024 * 1024  # bytes; no file of keys is longer


def make_private_folder(folder: Path) -> Path:
    """Return the folder, made with mode 0700 if it is missing.

    Raises
    ------
    NblbError
        It cannot be made, or belongs to another account.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise NblbError(f"The folder {folder} for keys cannot be made: {error.strerror or error}.") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise NblbError(f"The folder {folder} for keys is a link or belongs to another account; remove it.")
    return folder


def write_private(path: Path, content: bytes) -> None:
    """Write the file in one step; it never exists in part, nor readable by others."""
    handle, rough = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(rough).replace(path)
    except BaseException:
        Path(rough).unlink(missing_ok=True)
        raise


def read_private(path: Path, what: str, remedy: str) -> bytes:
    """Return the contents of a file of keys.

    Parameters
    ----------
    path
        The file.
    what
        What it is, for the sentence of an error: "The connection file".
    remedy
        What to do after other accounts have been able to read it.

    Raises
    ------
    NotAllowed
        It belongs to another account, or others can read it.
    FileNotFoundError
        There is none.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        if found.st_uid != os.getuid():
            raise NotAllowed(f"{what} {path} belongs to another account, so it is not used.")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise NotAllowed(
                f"{what} {path} can be read by other accounts (mode {stat.S_IMODE(found.st_mode):03o}), so it is not "
                f"used; run 'chmod 600 {path}', and if another account may have read it, {remedy}."
            )
        return os.read(file, LONGEST)
    finally:
        os.close(file)
