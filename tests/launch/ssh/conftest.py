"""A stand-in for ssh that runs the command on this computer, so that all but ssh itself is tested without a server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FAKE = """#!/bin/sh
# Options are skipped, a tunnel is a symbolic link, and the command runs here.
while [ $# -gt 0 ]; do
    case "$1" in
        -G) exit 0 ;;
        -R) ln -s "${2#*:}" "${2%%:*}"; shift 2 ;;
        -o) shift 2 ;;
        --) shift; break ;;
        *) shift ;;
    esac
done
case "$1" in nobody@*) echo "nobody: Permission denied (publickey)." >&2; exit 255 ;; esac
echo "a login script that prints"
exec sh -c "$2"
"""
ROOT = Path(__file__).parents[3]


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The command for Python "there"; NBLB_SSH is the stand-in."""
    script = tmp_path / "fake-ssh"
    script.write_text(FAKE)
    script.chmod(0o700)
    monkeypatch.setenv("NBLB_SSH", str(script))
    return f"env PYTHONPATH={ROOT} {sys.executable}"
