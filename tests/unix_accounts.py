"""Real Unix accounts for tests, which only root can make; they are removed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator


def missing() -> str:
    """Why there can be no such accounts here; "" if there can."""
    if os.geteuid() != 0:
        return "only root can make accounts"
    for program in ("useradd", "userdel"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return ""


@contextlib.contextmanager
def made(number: int, *options: str) -> Iterator[list[str]]:
    """Make accounts with homes of their own; return their names."""
    names = [f"nblb{uuid.uuid4().hex[:8]}" for _ in range(number)]
    try:
        for name in names:
            home = [] if "--no-create-home" in options else ["--create-home"]
            subprocess.run(["useradd", *home, "--shell", "/bin/sh", *options, name], check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["userdel", "--remove", "--force", name], stderr=subprocess.DEVNULL)
