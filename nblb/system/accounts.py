"""The Unix accounts as which a hub that root runs has its workers, and how a forked process becomes one of them."""

from __future__ import annotations

import os
import pwd
import re
import resource
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from nblb.host import short_folder
from nblb.system.private_folder import private_folder

UMASK = 0o077
NOBODY = 65534
FIRST_UID = 1000  # of people, where /etc/login.defs does not say otherwise
LOGIN_DEFAULTS = Path("/etc/login.defs")
MORE_PROCESSES = 4096  # that a worker's tasks may start, above the account's number
KEPT_VARIABLES = re.compile(
    r"LANG|LANGUAGE|LC_\w+|TZ|PATH|LD_LIBRARY_PATH|VIRTUAL_ENV|CONDA_PREFIX|NBLB_TASKS|PYTHON\w+"
)


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that workers of other accounts may inherit: none in which root keeps a secret."""
    return {name: value for name, value in variables.items() if KEPT_VARIABLES.fullmatch(name)}


def refusal(user: str, named: Collection[str] = ()) -> str:
    """Return why no task of this user may run as an account of this computer; "" if its tasks may.

    Parameters
    ----------
    user
        The user of a task, and so the name of an account.
    named
        The users whom the owner of the hub has named one by one: of these, system accounts are allowed, too.
    """
    here = socket.gethostname()
    try:
        found = pwd.getpwnam(user)
    except (KeyError, ValueError, OSError):
        return (
            f"the hub on {here} runs each task as the account of its user, and there is no account {user!r} there; "
            "ask its administrator for one"
        )
    if (found.pw_uid < first_uid() or found.pw_uid == NOBODY) and user not in named:
        kind = "root" if found.pw_uid == 0 else f"the system account {user!r}"
        return f"the hub on {here} runs no tasks as {kind}; its owner can allow that by naming {user!r} in --only"
    return ""


def first_uid() -> int:
    """Return the lowest number of a person's account; lower ones are the system's."""
    try:
        found = re.search(r"^\s*UID_MIN\s+(\d+)", LOGIN_DEFAULTS.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) if found is not None else FIRST_UID


def become(user: str) -> None:
    """Make this process, which root has forked and which has one thread, a process of this account, for good.

    It gets the account's groups, home (or a private folder), umask and a limit of its processes, and loses all of
    root's rights. Other processes cannot read its memory, not even those of the account.

    Raises
    ------
    OSError
        The system refuses a step; the process must end then.
    KeyError
        There is no such account.
    NblbError
        The account has no home, and no private folder can be made for it.
    """
    found = pwd.getpwnam(user)
    os.umask(UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.initgroups(found.pw_name, found.pw_gid)
    os.setgid(found.pw_gid)
    os.setuid(found.pw_uid)  # as root: the real, the effective and the saved one
    if found.pw_uid and _is_root_again():
        raise PermissionError(f"root's rights could not be given up for {user!r}")
    _limit_processes(found.pw_uid)
    home = _enter_home(found.pw_dir)
    os.environ.update(HOME=home, USER=found.pw_name, LOGNAME=found.pw_name, SHELL=found.pw_shell or "/bin/sh", PWD=home)


def _is_root_again() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return 0 in (os.getuid(), os.geteuid())
    return True


def _limit_processes(uid: int) -> None:
    """Bound the number of processes, which is counted per account: a fork bomb must not take the computer."""
    if not uid:
        return
    with os.scandir("/proc") as entries:
        mine = sum(1 for entry in entries if entry.name.isdecimal() and _owner(entry) == uid)
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = mine + MORE_PROCESSES
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_NPROC, (most, hard))


def _owner(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_uid
    except OSError:  # it has just ended
        return -1


def _enter_home(home: str) -> str:
    """Enter the account's home, or a private folder of the account if there is none that it can use."""
    try:
        os.chdir(home)
        if os.access(".", os.W_OK | os.X_OK):
            return home
    except OSError:
        pass
    folder = str(private_folder(private_folder(short_folder()) / "home"))
    os.chdir(folder)
    return folder
