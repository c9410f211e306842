"""The decisions about a hub on another computer, without ssh and with a clock of the test."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.launch.ssh.launcher import (
    DIAL_S,
    GRACE_S,
    PAUSES_S,
    STOP_S,
    Command,
    Dial,
    Finish,
    HangUp,
    HubKnown,
    Note,
    Order,
    Phase,
    ShowLog,
    SshLauncher,
    cause,
)

HUB = {"hub": 7, "host": "lab2", "found": False}
STOP = Order({"stop": GRACE_S})


class Rig:
    """A SshLauncher and its clock; `done` has the commands since the last look."""

    def __init__(self) -> None:
        self.launcher = SshLauncher("anna@lab2")
        self.now = 100.0
        self.done: list[Command] = list(self.launcher.start(self.now))

    def said(self, **word: Any) -> list[Command]:
        return self._keep(self.launcher.agent_said(word, self.now))

    def ssh_ended(self, reason: str = "cut") -> list[Command]:
        return self._keep(self.launcher.ssh_ended(reason, self.now))

    def stop(self) -> list[Command]:
        return self._keep(self.launcher.stop(self.now))

    def after(self, seconds: float) -> list[Command]:
        self.now += seconds
        return self._keep(self.launcher.tick(self.now))

    def _keep(self, commands: list[Command]) -> list[Command]:
        self.done = list(commands)
        return self.done

    def kinds(self) -> list[type]:
        return [type(command) for command in self.done]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def up(rig: Rig) -> Rig:
    rig.said(**HUB)
    return rig


def test_the_first_connection_starts_the_hub(rig: Rig) -> None:
    assert rig.done == [Dial(start=True, log_at=0)]
    assert rig.launcher.next_deadline() == 100.0 + DIAL_S
    rig.said(**HUB)
    assert rig.done[0] == HubKnown("lab2", 7)
    assert "has started" in str(rig.done[1])
    assert rig.launcher.phase is Phase.CONNECTED
    assert rig.launcher.next_deadline() is None


def test_a_lost_connection_is_dialled_again_and_does_not_start_another_hub(up: Rig) -> None:
    up.said(log="a line\n", at=7)
    up.ssh_ended("the cable")
    (note,) = up.done
    assert isinstance(note, Note)
    assert note.is_trouble
    assert "the connection to anna@lab2 is lost (the cable); the hub there goes on" in note.text
    assert up.after(PAUSES_S[0] - 0.01) == []
    assert up.after(0.01) == [Dial(start=False, log_at=7)]
    up.said(**(HUB | {"found": True}))
    assert "runs on" in str(up.done[1])


def test_the_pauses_grow_and_start_afresh_after_a_connection(up: Rig) -> None:
    waited = []
    for _ in range(9):
        up.ssh_ended()
        deadline = up.launcher.next_deadline()
        assert deadline is not None
        waited.append(round(deadline - up.now, 3))
        up.after(waited[-1])
    assert waited == [*PAUSES_S, PAUSES_S[-1], PAUSES_S[-1]]
    up.said(**HUB)
    up.ssh_ended()
    deadline = up.launcher.next_deadline()
    assert deadline is not None
    assert deadline - up.now == pytest.approx(PAUSES_S[0])


def test_an_ssh_that_hangs_is_ended(rig: Rig) -> None:
    assert rig.after(DIAL_S) == [HangUp()]
    rig.ssh_ended("killed")
    assert f"no answer within {DIAL_S:g} s" in str(rig.done[0])
    assert rig.after(PAUSES_S[0]) == [Dial(start=True, log_at=0)]


def test_the_log_comes_through(up: Rig) -> None:
    assert up.said(log="hello\n", at=6) == [ShowLog("hello\n")]


def test_a_hub_that_is_killed_is_reported_with_the_signal(up: Rig) -> None:
    up.said(ended=True, code=137, left=False)
    assert up.kinds() == [Note, HangUp, Finish]
    assert "has ended: killed by SIGKILL" in str(up.done[0])
    assert up.done[-1] == Finish()
    assert up.ssh_ended() == []
    assert up.launcher.next_deadline() is None


def test_a_hub_that_ends_at_once_is_a_failure(rig: Rig) -> None:
    rig.said(ended=True, code=1, left=False)
    assert rig.done[-1] == Finish(failed="the hub on anna@lab2 ended while it started: exit code 1")


def test_a_folder_that_cannot_be_used_is_a_failure(rig: Rig) -> None:
    rig.said(failed="the folder /tmp/nblb-7 cannot be used: no space")
    assert isinstance(rig.done[-1], Finish)
    assert "no hub can run on anna@lab2: the folder /tmp/nblb-7" in rig.done[-1].failed


def test_stop_ends_the_hub_and_waits_for_its_end(up: Rig) -> None:
    assert up.stop() == [STOP]
    assert up.stop() == []
    assert "may still run" in up.launcher.left()
    up.said(ended=True, code=0, left=False)
    assert up.done[-1] == Finish()


def test_stop_while_it_dials_gives_the_order_before_the_hub_starts(rig: Rig) -> None:
    assert rig.stop() == [STOP]
    rig.said(ended=True, code=None, left=False)
    assert rig.done[-1] == Finish()


def test_stop_while_the_connection_is_lost_dials_and_orders(up: Rig) -> None:
    up.ssh_ended()
    assert up.stop() == [Dial(start=False, log_at=0), STOP]
    up.ssh_ended("unreachable")
    assert up.after(PAUSES_S[0]) == [Dial(start=False, log_at=0), STOP]


def test_what_cannot_be_reached_is_said_to_be_left(up: Rig) -> None:
    up.ssh_ended()
    up.stop()
    up.ssh_ended("unreachable")
    up.after(STOP_S)
    finish = up.done[-1]
    assert isinstance(finish, Finish)
    assert "the hub on anna@lab2 (pid 7 on lab2) could not be reached and may still run" in finish.left


def test_stop_before_anything_was_reached_leaves_nothing(rig: Rig) -> None:
    rig.ssh_ended("no route")
    assert "cannot be reached (no route)" in str(rig.done[0])
    assert rig.stop() == [HangUp(), Finish()]


def test_a_folder_that_stays_is_said_to_be_left(up: Rig) -> None:
    up.stop()
    up.said(ended=True, code=0, left=True)
    assert up.done[-1] == Finish(left="its folder on anna@lab2 could not be removed")


def test_words_that_mean_nothing_change_nothing(up: Rig) -> None:
    assert up.said(weather="fine") == []


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "in good order"), (1, "exit code 1"), (137, "SIGKILL"), (255, "exit code 255"), (None, "not known")],
)
def test_causes(code: int | None, words: str) -> None:
    assert words in cause(code)
