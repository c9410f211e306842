"""The accounts as which workers run: who may, and what a process has after it has become one."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb.host import short_folder
from nblb.system import accounts
from tests import unix_accounts

needs_accounts = pytest.mark.skipif(bool(unix_accounts.missing()), reason=unix_accounts.missing() or "-")


@pytest.fixture(scope="module")
def names() -> Iterator[list[str]]:
    with unix_accounts.made(2) as names:
        yield names


def test_a_name_without_an_account_is_refused_in_a_sentence() -> None:
    said = accounts.refusal("nobody-of-this-name")
    assert "there is no account 'nobody-of-this-name'" in said
    assert "ask its administrator" in said
    assert accounts.refusal("nul\0") != ""


def test_root_and_system_accounts_are_refused_unless_they_are_named() -> None:
    assert "as root" in accounts.refusal("root")
    assert accounts.refusal("root", ["root"]) == ""
    system = next(each.pw_name for each in pwd.getpwall() if 0 < each.pw_uid < accounts.first_uid())
    assert f"the system account {system!r}" in accounts.refusal(system, ["anna"])
    assert accounts.refusal(system, [system]) == ""
    if nobody := [each.pw_name for each in pwd.getpwall() if each.pw_uid == accounts.NOBODY]:
        assert "system account" in accounts.refusal(nobody[0])


def test_the_first_uid_of_people_is_that_of_login_defs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = tmp_path / "login.defs"
    monkeypatch.setattr(accounts, "LOGIN_DEFAULTS", defaults)
    assert accounts.first_uid() == accounts.FIRST_UID
    defaults.write_text("# UID_MIN 5\nUID_MIN\t\t500\nSYS_UID_MIN 100\n")
    assert accounts.first_uid() == 500


def test_no_secret_of_root_is_inherited() -> None:
    given = {"PATH": "/bin", "LC_ALL": "C", "AWS_SECRET": "x", "SSH_AUTH_SOCK": "y", "HOME": "/", "PYTHONUTF8": "1"}
    assert accounts.clean_environment(given) == {"PATH": "/bin", "LC_ALL": "C", "PYTHONUTF8": "1"}


SCRIPT = """
import json, os, sys
from nblb.system import accounts
os.environ["TOKEN"] = "kept by the caller"
accounts.become(sys.argv[1])
again = []
for call in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
    try:
        call()
        again.append(True)
    except OSError:
        again.append(False)
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "again": again, "cwd": os.getcwd(),
    "umask": os.umask(0), "home": os.environ["HOME"], "user": os.environ["USER"], "name": os.environ["LOGNAME"],
}))
"""


def became(name: str) -> dict[str, Any]:
    """What a process of root has become as this account."""
    said = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, check=True)
    about: dict[str, Any] = json.loads(said.stdout)
    return about


@needs_accounts
def test_a_process_becomes_the_account_for_good(names: list[str]) -> None:
    found, about = pwd.getpwnam(names[0]), became(names[0])
    assert about["uids"] == [found.pw_uid] * 3
    assert about["gids"] == [found.pw_gid] * 3
    assert about["groups"] == os.getgrouplist(found.pw_name, found.pw_gid)
    assert about["again"] == [False] * 4
    assert about["cwd"] == about["home"] == found.pw_dir
    assert about["user"] == about["name"] == names[0]
    assert about["umask"] == accounts.UMASK


@needs_accounts
def test_an_account_without_a_home_gets_a_private_folder() -> None:
    with unix_accounts.made(1, "--no-create-home", "--home-dir", "/nowhere/at/all") as (name,):
        about = became(name)
        home = Path(about["home"])
        try:
            assert about["cwd"] == about["home"]
            assert home.is_relative_to(short_folder().parent)
            found = home.stat()
            assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (pwd.getpwnam(name).pw_uid, 0o700)
        finally:
            home.rmdir()
            home.parent.rmdir()
