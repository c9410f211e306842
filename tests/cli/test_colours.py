"""Colours of the command line: on terminals only, and of nblb's own making only."""

from __future__ import annotations

import argparse
import sys

import pytest

from nblb.cli import colours, command

ROWS = [{"name": "sweep", "state": "done"}, {"name": "bad \x1b[31m\x1b[2J", "state": "failed"}]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert capsys.readouterr().out == ""  # so that sys.stdout is the one of the test
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    command.show(argparse.Namespace(json=False), ROWS, lambda: command.table(ROWS, ("name", "state"), "none"))
    return capsys.readouterr().out


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_colours_and_only_ours(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys)
    assert f"{colours.GREEN}done{colours.PLAIN}" in text
    assert f"{colours.RED}failed{colours.PLAIN}" in text
    assert text.startswith(f"{colours.BOLD}name")
    assert "bad \\x1b[31m\\x1b[2J" in text


def test_a_pipe_gets_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in shown(capsys)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_nor_does_who_asked_for_none(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert "\x1b" not in shown(capsys)


@pytest.mark.usefixtures("terminal")
def test_an_empty_no_color_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert colours.GREEN in shown(capsys)


@pytest.mark.usefixtures("terminal")
def test_columns_stay_in_line(capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["".join(part for part in colours.split(line) if not part.startswith("\x1b"))
             for line in shown(capsys).splitlines()]  # fmt: skip
    assert plain[1].index("done") == plain[2].index("failed") == plain[0].index("state")


@pytest.mark.parametrize(
    ("cell", "colour"),
    [
        ("done", colours.GREEN),
        ("5 DONE, 3 FAILED", colours.RED),
        ("1,200 RUNNING, 3 DONE", colours.BLUE),
        ("idle", colours.GREY),
        ("sweep", ""),
    ],
)
def test_the_worst_state_gives_the_colour(cell: str, colour: str) -> None:
    assert colours.of_state(cell) == colour
