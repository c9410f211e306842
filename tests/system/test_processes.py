"""Names of hubs that show whether their process still exists."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nblb.system import processes
from tests.waiting import wait_until

MAKE = "from nblb.system.processes import new_name; print(new_name(), flush=True); input()"


def test_a_name_lives_as_long_as_its_process_even_unreaped() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", MAKE], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not processes.has_ended(name)
        process.kill()
        wait_until(lambda: processes.has_ended(name), 10, "a zombie to count as dead")
    assert processes.has_ended(name)


def test_names_of_one_process_differ() -> None:
    assert processes.new_name() != processes.new_name()


@pytest.mark.parametrize("name", ["", "lab", "c0b28c1f2b3a", "0badc0de-1-x", "x-", "x-99999999999999999999-y", "--"])
def test_of_others_nothing_is_known(name: str) -> None:
    assert not processes.has_ended(name)
