"""The comparison with another computer, and the environment that is made there."""

from __future__ import annotations

import base64
import io
import sys
import tarfile
from typing import Any

import pytest

from nblb._version import __version__
from nblb.errors import NblbError
from nblb.launch.ssh import probe, remote_agent

OURS = {name: remote_agent.package_version(name) for name in remote_agent.PACKAGES}
MINOR = list(sys.version_info[:3])


class There:
    """Another computer with some interpreters; `asked` has the actions."""

    def __init__(self, **pythons: dict[str, Any]) -> None:
        self.pythons = pythons
        self.asked: list[tuple[str, str]] = []
        self.made: dict[str, Any] = {}

    def ask(self, python: str, action: str, about: dict[str, Any], _timeout_s: float) -> dict[str, Any]:
        self.asked.append((python, action))
        if action == "make":
            self.made = about
            self.pythons["/env/python"] = {}
            return {"made": "/env/python"}
        same = {"python": MINOR, "nblb": __version__, "packages": OURS, "cores": 8, "host": "lab2", "others": []}
        return same | self.pythons[python]


def test_equal_versions_are_one_sentence() -> None:
    found = probe.look("lab2", ask=There(python3={}).ask)
    assert found.suits
    assert found.differences == ()
    assert probe.summary(found) == "lab2: 8 cores; Python, nblb, cloudpickle and numpy are the same as here"
    assert probe.trouble(found) == ""


def test_the_table_says_what_follows() -> None:
    there = There(python3={"python": [3, 9, 2], "packages": {"cloudpickle": "2.0.0", "numpy": ""}})
    found = probe.look("lab2", ask=there.ask)
    assert {row.what for row in found.differences} == {"Python", "cloudpickle", "numpy"}
    table = probe.summary(found)
    assert "functions of this process cannot run there" in table
    assert "tasks that need it fail there" in table
    assert "objects that contain cloudpickle's may not be understood" in table
    assert table.splitlines()[0].split() == ["here", "lab2"]
    assert "functions of this process cannot run there" in probe.trouble(found)


def test_an_interpreter_that_suits_is_found() -> None:
    others = {"python": [3, 8, 1], "nblb": "", "others": ["/usr/bin/python3.12", "/my envs/python"]}
    there = There(python3=others, **{"/usr/bin/python3.12": {"nblb": ""}, "'/my envs/python'": {}})
    assert probe.look("lab2", ask=there.ask).python == "'/my envs/python'"


def test_a_python_that_was_named_is_the_only_one() -> None:
    there = There(mine={"nblb": "", "others": ["/usr/bin/python3.12"]})
    with pytest.raises(NblbError, match="nblb is not installed for mine"):
        probe.look("lab2", "mine", ask=there.ask)
    assert there.asked == [("mine", "probe")]


def test_a_missing_nblb_is_an_offer() -> None:
    with pytest.raises(NblbError, match=r"(?s)none +must be installed.*--make-venv .*environment there"):
        probe.look("lab2", ask=There(python3={"nblb": ""}).ask)


def test_an_environment_has_the_versions_of_this_process() -> None:
    there = There(python3={"nblb": ""})
    assert probe.look("lab2", make_venv=True, ask=there.ask).python == "/env/python"
    assert f"cloudpickle=={OURS['cloudpickle']}" in there.made["requirements"]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(there.made["archive"]))) as packed:
        names = packed.getnames()
    assert {"nblb/__init__.py", "nblb/parameters.json", "nblb/py.typed"} <= set(names)
    assert not any("__pycache__" in name for name in names)


def test_an_environment_is_not_made_where_nblb_is() -> None:
    there = There(python3={})
    assert probe.look("lab2", make_venv=True, ask=there.ask).python == "python3"
    assert ("python3", "make") not in there.asked


def test_an_environment_needs_the_same_python() -> None:
    there = There(python3={"python": [3, 8, 1], "nblb": ""})
    with pytest.raises(NblbError, match=r"has no python3\.\d+, which this process runs"):
        probe.look("lab2", make_venv=True, ask=there.ask)


def test_a_failed_installation_has_its_output() -> None:
    def ask(python: str, action: str, about: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if action == "make":
            return {"failed": "python -m pip install", "output": "no matching distribution"}
        return There(python3={"nblb": ""}).ask(python, action, about, timeout_s)

    with pytest.raises(NblbError, match=r"(?s)no environment could be made on lab2.*no matching distribution"):
        probe.look("lab2", make_venv=True, ask=ask)


def test_a_probe_with_a_strange_answer() -> None:
    with pytest.raises(NblbError, match="not understood"):
        probe.look("lab2", ask=lambda *_: {"python": "three"})
