"""binder/: the files that mybinder.org reads are well-formed and install what pyproject.toml requires."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
tomllib = pytest.importorskip("tomllib" if __import__("sys").version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).parents[1]
BINDER = ROOT / "binder"


def name_of(requirement: str) -> str:
    return re.split(r"[\s<>=!~\[;]", requirement.strip())[0].lower()


def test_environment_holds_what_nblb_needs() -> None:
    environment = yaml.safe_load((BINDER / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    given = {name_of(line): line.replace(" ", "") for line in pip}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["lab"], *extras["demo"]]
    for requirement in wanted:
        if name_of(requirement) != "nblb":
            assert given.get(name_of(requirement)) == requirement.replace(" ", "")


@pytest.mark.parametrize("script", ["postBuild", "start"])
def test_scripts(script: str) -> None:
    path = BINDER / script
    assert os.access(path, os.X_OK), "repo2docker runs them only when they are executable"
    assert path.read_text().startswith("#!/bin/bash\n")
    assert "set -euo pipefail" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_start_hands_over() -> None:
    assert (BINDER / "start").read_text().rstrip().endswith('exec "$@"')


def test_post_build_installs_extras_that_exist() -> None:
    (extra,) = re.findall(r'"\.\[(\w+)\]"', (BINDER / "postBuild").read_text())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extra in extras


def test_nothing_else_overrides() -> None:
    """A Dockerfile anywhere repo2docker looks would win over all of this."""
    assert not (ROOT / "Dockerfile").exists()
    assert not (BINDER / "Dockerfile").exists()
    assert not (ROOT / ".binder").exists()
