"""The logs of a cluster's processes: by role, their tails, and new lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from nblb.errors import NblbError
from nblb.launch import logs
from nblb.parameters import Parameters, load


@pytest.fixture
def parameters(tmp_path: Path) -> Parameters:
    (tmp_path / "logs").mkdir()
    return load({"LB_STATE_DIR": str(tmp_path), "LB_NAME": "lab"})


def test_core_first_then_hubs(parameters: Parameters) -> None:
    for name in ("monitor", "hub-2", "hub", "other", "core"):
        (parameters.state_dir / "logs" / f"{name}.log").touch()
    assert list(logs.files(parameters)) == ["core", "hub", "hub-2", "monitor", "other"]


def test_a_log_that_is_not_there_names_those_that_are(parameters: Parameters) -> None:
    with pytest.raises(NblbError, match="none has written one here"):
        logs.file_of(parameters, "core")
    (parameters.state_dir / "logs" / "hub.log").touch()
    assert logs.file_of(parameters, "hub").name == "hub.log"
    with pytest.raises(NblbError, match="'core'; there are hub"):
        logs.file_of(parameters, "core")


def test_the_end_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "core.log"
    path.write_bytes(b"".join(f"line {n}\n".encode() for n in range(1000)) + b"caf\xc3\n")
    assert logs.last_lines(path, 2) == "line 999\ncaf\ufffd"
    assert logs.last_lines(path, 0) == ""
    assert logs.last_lines(path, 5000).startswith("line 0\n")


def test_what_is_new_also_of_a_log_that_was_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "core.log"
    path.write_text("old\n")
    new = logs.new_text(path)
    assert next(new) == ""
    with path.open("a") as file:
        file.write("one\n")
    assert next(new) == "one\n"
    path.write_text("b\n")
    assert next(new) == "b\n"
    path.unlink()
    assert next(new) == ""
