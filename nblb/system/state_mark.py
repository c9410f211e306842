"""The mark of a state folder, without which nblb neither removes nor overwrites anything in that folder.

A folder that LB_STATE_DIR names may be a project folder with files of the user. The first start writes the mark into a
new or empty folder, or into one that an older nblb has filled; any other folder is refused. A marked folder, and
everything in it, is closed to other accounts, whatever the umask was when it was made.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from nblb.errors import JournalError

MARK = "nblb-state"
TEXT = "nblb keeps the state of a cluster in this folder. It changes and removes its own files here without asking.\n"
OTHERS = 0o077  # the permissions of group and others
KEYS = "access"  # the subfolder of access/key_file.py
MOST_NAMED = 3  # names in an error
WAL_BYTES = 128 * 1024  # of a journal's log that contain its tables, if the database does not yet

JOURNAL, JOURNAL_TABLES = "journal.sqlite", {"meta", "tasks", "blobs"}
STORED = re.compile(r"[0-9a-f]{40}|[0-9a-f]{44}|tmp-\d+|token")  # the files in blobs and incoming
CORE = re.compile(r"[0-9a-f]{32}")  # a core's id: the name of its folder of outputs
_log = re.compile(r"[\w.-]+\.log(\.1)?")
_keys = re.compile(r"\.?(keys\.json|server\.key|tickets\.key|monitor\.key|audit\.log)(\.\w+)?")
_of_a_disk = re.compile(r"lost\+found|\.nfs\w+|\.DS_Store|\.snapshot")  # file systems make these in any folder


def claim(folder: Path) -> Path:
    """Make the state folder if it is missing, mark it, close it to other accounts, and return it.

    Raises
    ------
    JournalError
        The folder cannot be used, belongs to another account, contains files that nblb has not written, or has a link
        in place of one of nblb's own folders.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(folder)
        wide = folder.stat().st_mode & OTHERS
        is_new = not is_marked(folder)
        if is_new:
            _mark(folder)
        if wide:
            folder.chmod(0o700)
        if wide or is_new:
            close_to_others(folder)
    except OSError as error:
        raise JournalError(
            f"The state folder {folder} cannot be used: {error.strerror or error}; name another with LB_STATE_DIR."
        ) from None
    return folder


def is_marked(folder: Path) -> bool:
    """Return True if nblb has marked this folder as its own."""
    try:
        found = (folder / MARK).lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()


def is_ours(folder: Path) -> bool:
    """Return True if the folder is marked, or if an older nblb has filled it; False for an empty one."""
    return is_marked(folder) or (folder.is_dir() and any(folder.iterdir()) and not foreign_names(folder))


def _check(folder: Path) -> None:
    """Refuse a folder of another account, and links in place of nblb's own files and folders."""
    if folder.stat().st_uid != os.getuid():
        raise JournalError(
            f"The state folder {folder} belongs to another account, which could read and change what is in it; name a "
            f"folder of your own with LB_STATE_DIR, such as {folder / 'cluster'}."
        )
    for name in sorted(_OURS):
        if (folder / name).is_symlink():
            raise JournalError(
                f"{folder / name} is a link, and nblb follows no links in its state folder; move what it refers to "
                "here, or name another folder with LB_STATE_DIR."
            )


def _mark(folder: Path) -> None:
    foreign = foreign_names(folder)
    if foreign:
        named = ", ".join(map(repr, foreign[:MOST_NAMED]))
        more = f" and {len(foreign) - MOST_NAMED} more" if len(foreign) > MOST_NAMED else ""
        raise JournalError(
            f"The state folder {folder} contains files that nblb has not written ({named}{more}), so nblb leaves it "
            f"alone; name a new or empty folder with LB_STATE_DIR, such as {folder / 'cluster'}."
        )
    with contextlib.suppress(FileExistsError):  # another process of the cluster was faster
        mark = os.open(folder / MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(mark, "w") as file:
            file.write(TEXT)


def close_to_others(folder: Path, depth: int | None = None) -> None:
    """Remove the permissions of other accounts from everything below the folder; follow no link.

    Files of keys stay as they are: those that others could read must be refused, not closed without notice.

    Parameters
    ----------
    folder
        The state folder, which is closed already, so that nobody else can replace anything in it meanwhile.
    depth
        The number of levels to look at; if one of them is open to others, all levels are closed. None for all.
    """
    found_open = False
    for entry, level in _below(folder, 1, depth):
        with contextlib.suppress(OSError):  # removed meanwhile
            mode = entry.stat(follow_symlinks=False).st_mode
            if mode & OTHERS and not stat.S_ISLNK(mode):
                Path(entry.path).chmod(stat.S_IMODE(mode) & ~OTHERS)
                found_open = found_open or level == depth
    if found_open:
        close_to_others(folder)


def _below(folder: Path | str, level: int, depth: int | None) -> Iterator[tuple[os.DirEntry[str], int]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if level == 1 and entry.name == KEYS:
                continue
            yield entry, level
            if (depth is None or level < depth) and entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, level + 1, depth)


# ── what an older nblb has written ──────────────────────────────────────────────────────────────────────────


def foreign_names(folder: Path) -> list[str]:
    """Return the names in an unmarked folder that are not an older nblb's; none if its journal is in the folder."""
    if _tables(folder / JOURNAL) >= JOURNAL_TABLES or _begin(folder / f"{JOURNAL}-wal", b"CREATE TABLE meta (key TEXT"):
        return []
    return [name for name in _foreign(folder, _OURS) if not _of_a_disk.fullmatch(name)]


def _foreign(folder: Path, known: dict[str, Callable[[Path], list[str]]]) -> list[str]:
    """Return the names in the folder that are not known, and those below known names that nblb has not written."""
    found: list[str] = []
    for path in sorted(folder.iterdir()):
        look = known.get(path.name)
        found += [path.name] if look is None else look(path)
    return found


def _folder_of(pattern: re.Pattern[str], of_folders: bool = False) -> Callable[[Path], list[str]]:
    """Return a check that a path is a folder with only such names in it."""

    def look(path: Path) -> list[str]:
        if not path.is_dir():
            return [path.name]
        others = [
            entry for entry in os.scandir(path) if not pattern.fullmatch(entry.name) or entry.is_dir() != of_folders
        ]
        return sorted(f"{path.name}/{entry.name}" for entry in others)

    return look


def _file_that(is_ours: Callable[[bytes], bool]) -> Callable[[Path], list[str]]:
    """Return a check that a path is a file that begins as nblb's does."""

    def look(path: Path) -> list[str]:
        if not path.is_file():
            return [path.name]
        with path.open("rb") as file:
            return [] if is_ours(file.read(4096)) else [path.name]

    return look


def _memory(path: Path) -> list[str]:
    if not path.is_dir():
        return [path.name]
    return [f"{path.name}/{name}" for name in _foreign(path, {name: _OURS[name] for name in ("blobs", "incoming")})]


def _tables(journal: Path) -> set[str]:
    """Return the names of the tables in a database; none if it is empty, damaged or no database. Changes nothing."""
    import sqlite3  # only here: a client never needs it

    if journal.is_symlink() or not journal.is_file():
        return set()
    try:
        with contextlib.closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            return {str(name) for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return set()


def _begin(path: Path, text: bytes) -> bool:
    """Return True if the text is near the beginning of this file."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return text in file.read(WAL_BYTES)
    except OSError:
        return False


def _journal(path: Path) -> list[str]:
    """Accept a journal, also an empty or damaged one, but no database of another program."""
    tables = _tables(path)
    return [] if path.is_file() and (not tables or tables >= JOURNAL_TABLES) else [path.name]


_OURS: dict[str, Callable[[Path], list[str]]] = {
    JOURNAL: _journal,
    f"{JOURNAL}-wal": _file_that(lambda begin: not begin or begin.startswith(b"\x37\x7f\x06")),
    f"{JOURNAL}-shm": _file_that(lambda _: True),
    "lock": _file_that(lambda begin: not begin or begin.startswith(b"the core ")),
    "reserve": _file_that(lambda begin: not begin.strip(b"\0")),
    "blobs": _folder_of(STORED),
    "incoming": _folder_of(STORED),
    "output": _folder_of(CORE, of_folders=True),
    "logs": _folder_of(_log),
    "memory": _memory,
    "access": _folder_of(_keys),
    "history.msgpack": _file_that(lambda _: True),
}
