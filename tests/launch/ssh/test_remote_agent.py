"""The program on the other computer: what it reports, and that it needs nothing but the standard library."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nblb._version import __version__
from nblb.launch.ssh import remote_agent


def test_it_imports_the_standard_library_only() -> None:
    tree = ast.parse(Path(remote_agent.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_its_syntax_is_that_of_an_old_python() -> None:
    ast.parse(Path(remote_agent.__file__).read_text(), feature_version=(3, 8))


def test_versions() -> None:
    assert remote_agent.nblb_version() == __version__
    assert remote_agent.package_version("no-such-package") == ""


def test_the_start_of_a_process_is_known() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert remote_agent.began(child.pid) not in ("", remote_agent.began(os.getpid()))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert remote_agent.began(child.pid) == ""  # a zombie runs nothing
    finally:
        child.communicate()
    assert remote_agent.began(child.pid) == ""


def test_a_folder_is_for_this_account_only(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir(mode=0o755)
    remote_agent.own_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(PermissionError, match="link"):
        remote_agent.own_folder(link)


def test_folders_of_hubs_that_ended_long_ago_are_swept(tmp_path: Path) -> None:
    for name, age_s in (("old", 2 * remote_agent.KEPT_S), ("new", 0.0), ("own", 2 * remote_agent.KEPT_S)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "hub.exit").write_text("0")
        then = (folder / "hub.exit").stat().st_mtime - age_s
        os.utime(folder / "hub.exit", (then, then))
    (tmp_path / "running").mkdir()
    remote_agent.sweep(tmp_path, tmp_path / "own")
    assert {path.name for path in tmp_path.iterdir()} == {"new", "own", "running"}


def test_ends_of_tunnels_that_no_agent_has_moved_are_swept(tmp_path: Path) -> None:
    for name, age_s in (("nblb-old.sock", 2 * remote_agent.TUNNEL_S), ("nblb-new.sock", 0.0), ("other.sock", 1e6)):
        path = tmp_path / name
        path.touch()
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))
    remote_agent.sweep_tunnels(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"nblb-new.sock", "other.sock"}
