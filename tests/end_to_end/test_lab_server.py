"""The steps of docs/lab-server.md, on three computers in network namespaces."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import Host, lab
from tests.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "lab-server.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(json|sh|python) (server|laptop|gpu1)(?: (\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
NBLB = f"{sys.executable} -m nblb"


def steps() -> Iterator[tuple[str, str, str, str]]:
    for found in BLOCK.finditer(PAGE):
        language, place, name, text = found.groups()
        yield language, place, name or "", text


@pytest.mark.timeout(240)
def test_the_steps_work_as_they_are_written() -> None:
    with lab(3) as hosts:
        places = dict(zip(("server", "laptop", "gpu1"), hosts, strict=True))
        assert places["server"].ip in PAGE, "the page has the address that the first host has here"
        line, printed, background = "", dict[str, str](), 0
        for language, place, name, text in steps():
            host = places[place]
            if language == "json":
                host.write(name, text)
            elif language == "python":
                printed[text] = host.python(text).stdout
            else:
                for command in text.splitlines():
                    line, background = run(host, command, line, printed, background)
        assert background == 1
    (squares,) = [said for text, said in printed.items() if "square" in text]
    assert squares.strip() == str(sum(x * x for x in range(1000)))
    assert "workers   2 in 1 hub," in printed["nblb status --cluster lab"]
    assert printed["nblb health --cluster lab"].startswith("OK: 2 workers answer")
    assert re.search(r"^anna +user +valid", printed["nblb users list -p lab.json"], re.MULTILINE)
    assert "1 key revoked" in printed["nblb users revoke anna -p lab.json"]


def run(host: Host, command: str, line: str, printed: dict[str, str], background: int) -> tuple[str, int]:
    """Run one command of the page; return the line of the latest invitation, and how many run in the background."""
    words = command.replace("LINE", line).split()
    assert words[0] == "nblb", command
    if words[-1] == "&":
        log = host.file("hub.log")
        with log.open("w") as output:
            host.popen(*NBLB.split(), *words[1:-1], stdout=output, stderr=output)
        wait_until(lambda: "connected to the Load Balancer" in log.read_text(), 30, "the hub is connected")
        return line, background + 1
    if command.startswith("nblb health"):
        wait_until(lambda: host.nblb(*words[1:], check=False).returncode == 0, 30, "a worker answers", every_s=0.5)
    printed[command] = said = host.nblb(*words[1:]).stdout
    if words[1] == "invite":
        assert said.startswith("nblb join tcp://")
        line = said.removeprefix("nblb join ").strip()
    return line, background
