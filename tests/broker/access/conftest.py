"""A core that listens with keys on loopback, and parties that have joined it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from nblb.access.connection_file import ConnectionFile
from nblb.broker import load_balancer
from nblb.launch import one_shot
from nblb.parameters import Parameters
from nblb.protocol.messages import Message, client_to_core, core_to_client, core_to_hub, hub_to_core
from nblb.transport.curve.enrol import join
from nblb.transport.curve.line import CurveLine
from tests.broker.running import DEADLINE_S, Running


class Guarded(Running):
    """A Load Balancer in a thread whose doors for other computers are on loopback."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters)
        self.parameters = self.balancer.parameters

    def administer(self, action: str, **about: Any) -> Any:
        address = self.balancer.doors.addresses["clients_local"]
        return one_shot.administer(address, action, about)

    def invite(self, name: str, role: str = "user", **more: Any) -> str:
        line: str = self.administer("invite", name=name, role=role, host="127.0.0.1", **more)["line"]
        return line

    def join(self, name: str, role: str = "user") -> ConnectionFile:
        return join(self.invite(name, role), name)

    def dial(self, file: ConnectionFile, hub: bool | None = None) -> CurveLine:
        as_hub = file.role == "hub" if hub is None else hub
        codecs = (hub_to_core, core_to_hub) if as_hub else (client_to_core, core_to_client)
        line = CurveLine(file, *codecs)
        self.lines.append(line)
        return line


def ask(line: CurveLine, *messages: Message, until: type = object, number: int = 1) -> list[Any]:
    """Send the messages, and return what arrives until there are `number` of a kind."""
    if messages:
        line.send(list(messages))
    end, found = monotonic() + DEADLINE_S, list[Any]()
    while sum(isinstance(message, until) for message in found) < number:
        assert monotonic() < end, f"only {found}"
        found += line.receive(0.5)
    return [message for message in found if isinstance(message, until)]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, parameters: Parameters, tmp_path: Path) -> Iterator[Guarded]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(load_balancer, "listening_address", lambda _name: "127.0.0.1")
    ports = {"LB_CLIENTPULLPORT": 0, "LB_WKPULLPORT": 0, "LB_NAME": "lab"}
    core = Guarded(parameters.changed(**ports))
    yield core
    core.end()
