"""Links to the Monitor: of its own account and for others, and how the command line and a cluster make them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from nblb.access.monitor_token import MonitorToken, opened
from nblb.cli import main
from nblb.errors import NblbError
from nblb.host import account
from nblb.launch import monitor_links
from nblb.launch.presence import RoleLock
from nblb.parameters import Parameters
from nblb.system.private_folder import runtime_folder

URL = "http://127.0.0.1:9000/"


@pytest.fixture
def monitor(parameters: Parameters) -> Any:
    """A Monitor that runs, as far as its lock says."""
    lock = RoleLock(runtime_folder(parameters), "monitor", alone=True)
    assert lock.take()
    lock.say(url=URL)
    yield parameters
    lock.leave()


def token_of(link: str, parameters: Parameters) -> MonitorToken:
    assert link.startswith(f"{URL}?token=")
    text = parse_qs(urlsplit(link).query)["token"][0]
    return opened(monitor_links.key_of(parameters), "link", text, time.time())


def test_the_owners_link_is_the_same_all_day(monitor: Parameters, monkeypatch: pytest.MonkeyPatch) -> None:
    first = monitor_links.owners_link(monitor)
    token = token_of(first, monitor)
    assert (token.name, token.role) == (account(), "admin")
    assert 86400 < token.until - time.time() <= 2 * 86400
    now = (time.time() // 86400) * 86400
    monkeypatch.setattr(time, "time", lambda: now)
    morning = monitor_links.owners_link(monitor)
    monkeypatch.setattr(time, "time", lambda: now + 86399)
    assert monitor_links.owners_link(monitor) == morning


def test_a_link_for_somebody(monitor: Parameters) -> None:
    token = token_of(monitor_links.link_for(monitor, "anna", "user", 60.0, 120.0), monitor)
    assert (token.name, token.role, token.login_s) == ("anna", "user", 120.0)
    assert token.until - time.time() <= 60.0
    assert token_of(monitor_links.link_for(monitor), monitor).role == "viewer"
    for wrong, words in (({"role": "hub"}, "must be one of viewer, user, admin"), ({"expires_s": 0}, "more than 0"),
                         ({"login_s": 1e9}, "at most a year"), ({"name": "a\nb"}, "printable")):  # fmt: skip
        with pytest.raises(NblbError, match=words):
            monitor_links.link_for(monitor, **wrong)  # type: ignore[arg-type]


def test_without_a_monitor_there_is_no_link(parameters: Parameters) -> None:
    assert monitor_links.owners_link(parameters) == ""
    with pytest.raises(NblbError, match="no Monitor runs"):
        monitor_links.link_for(parameters)
    assert not (parameters.state_dir / "access").exists()


def test_the_command_prints_it_and_ends_all(
    monitor: Parameters, parameters_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", "link", "anna", "--role", "user", "--expires", "5m", "-p", parameters_file]) == 0
    said = capsys.readouterr()
    link = said.out.strip()
    assert token_of(link, monitor).name == "anna"
    assert "for anna, user, for 5 minutes" in said.err
    assert main(["monitor", "renew", "-p", parameters_file]) == 0
    with pytest.raises(NblbError, match="not of this Monitor"):
        token_of(link, monitor)
    assert (Path(parameters_file).parent / "state" / "access" / "monitor.key").stat().st_mode & 0o777 == 0o600
