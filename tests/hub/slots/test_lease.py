"""A hub's lease from its core: by the hub's clock it ends before the core assumes so."""

from __future__ import annotations

from random import Random

import pytest

from nblb.hub.slots.lease import MEASURED, CoreLease
from nblb.protocol.commands import Log, Send
from nblb.protocol.messages import Heartbeat, HubHello, Message, RunTask, TaskStopped, Welcome
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from tests.hub.slots_rig import SlotsRig

TERM_S = 13.0


def tie(echo: float = 100.0) -> CoreLease:
    """One that has said hello at 100 and heard the answer at 101."""
    tie = CoreLease(1.0, 5.0, TERM_S, 2.0)
    tie.is_wired = True
    tie.greet(100.0)
    tie.received(101.0)
    assert tie.welcome(Welcome(core="c", epoch=1, name="n", echo=echo), 101.0)
    return tie


def over_at(tie: CoreLease) -> float:
    """When the lease is over if nothing more comes."""
    for _ in range(50):
        at = tie.deadline()
        if tie.check(at)[2]:
            return at
    raise AssertionError("the lease does not end")


def test_the_lease_counts_from_what_was_acknowledged() -> None:
    assert over_at(tie()) == 100.0 + TERM_S
    later = tie()
    later.received(108.0)
    later.acknowledge(105.0, 105.0)
    assert over_at(later) == 105.0 + TERM_S
    assert later.is_over
    assert later.leased_at == 0.0


def test_words_that_acknowledge_nothing_extend_nothing() -> None:
    one = tie()
    for now in range(102, 112):
        one.received(float(now))
        one.acknowledge(0.0, 0.0)
    one.acknowledge(99.0, 99.0)
    assert over_at(one) == 100.0 + TERM_S


def test_a_core_that_lives_on_this_computer_extends_the_lease() -> None:
    one = tie()
    one.extend(110.0)
    assert one.leased_at == 110.0
    assert over_at(one) == 110.0 + TERM_S
    one.extend(124.0)  # this hub stood still itself: the core may have given its work to others
    assert one.is_over
    late = tie()
    late.extend(100.0 + TERM_S)
    assert over_at(late) == 100.0 + TERM_S


def test_a_hello_makes_void_what_was_said_before() -> None:
    one = tie()
    one.break_(107.0)
    one.greet(107.0)
    one.received(108.0)
    assert one.welcome(Welcome(core="c", epoch=1, name="n", echo=100.0), 108.0)
    one.acknowledge(106.0, 106.0)  # an answer that was on its way for long: the core counts from 100 again
    assert one.leased_at == 100.0
    one.acknowledge(107.5, 107.5)
    assert one.leased_at == 107.5


def test_a_core_that_acknowledges_nothing_is_believed_by_its_words() -> None:
    old = tie(echo=0.0)
    old.received(110.0)
    assert over_at(old) == 110.0 + TERM_S


def test_what_is_over_begins_again_with_the_next_acknowledgement() -> None:
    one = tie()
    one.received(112.9)
    assert one.check(113.0)[2]
    assert one.is_over
    one.acknowledge(112.9, 112.9)
    assert not one.is_over
    assert one.leased_at == 112.9


def test_a_sleep_counts_for_the_lease_of_a_core_elsewhere() -> None:
    short, long = tie(), tie()
    short.sleep(3.0, 102.0)
    assert over_at(short) == 100.0 + TERM_S - 3.0
    short = tie()
    short.sleep(3.0, 102.0)
    short.acknowledge(101.5, 102.0)  # it may have arrived before the sleep
    assert short.leased_at == 97.0
    short.acknowledge(102.5, 102.5)
    assert short.leased_at == 102.5
    long.sleep(3600.0, 102.0)
    assert long.has_lapsed(102.0)


def test_nothing_is_begun_once_the_lease_is_over() -> None:
    rig = SlotsRig(1, welcome=False, suspect_s=5.0, lease_s=15.0)
    rig.core(Welcome(core="c", epoch=1, name="lab", echo=rig.now))
    rig.start_workers()
    for _ in range(15):  # the core speaks, and hears nothing
        rig.tick(1.0)
        rig.core(Heartbeat(at=1.0))
    rig.forget()
    run = rig.run("late")
    assert rig.given == []
    assert [(m.task, m.why, m.ran) for m in rig.messages(TaskStopped)] == [("late", "recall", False)]
    rig.tick(1.0)
    rig.core(Heartbeat(echo=rig.now))
    rig.core(RunTask(task=run.task, attempt=2, name="f", function="", payload=run.payload))
    assert not [m for m in rig.messages(TaskStopped) if m.attempt == 2]


def test_the_lease_is_as_long_as_the_core_says() -> None:
    """A hub with other parameters than its core would run on what the core has given to another hub."""
    rig = SlotsRig(1, welcome=False, suspect_s=5.0, lease_s=15.0)
    rig.core(Welcome(core="c", epoch=1, name="lab", echo=rig.now, lease_s=4.0, suspect_s=1.0))
    rig.core(Heartbeat(echo=rig.now))
    for _ in range(4):
        rig.tick(1.0)
    assert any("acknowledged nothing" in command.text for command in rig.commands(Log))


@pytest.mark.parametrize("losses", [(0.0, 0.0), (0.95, 0.0), (0.0, 0.95), (0.6, 0.6), (1.0, 1.0)])
@pytest.mark.parametrize("patience_s", [0.1, 4.0, 12.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_hub_stops_before_the_core_gives_its_work_away(
    seed: int, patience_s: float, losses: tuple[float, float]
) -> None:
    """Both ends over a line that from 5 s on delays and loses as it likes, one way or both."""
    random, scheduler = Random(seed), Scheduler(Policy(core="c", suspect_s=5.0, lease_s=15.0))
    rig = SlotsRig(1, welcome=False, suspect_s=5.0, lease_s=15.0)
    skew = random.random() * 5000
    lines: tuple[list[tuple[float, Message]], ...] = ([], [])  # to the core, to the hub
    stopped_at, known = 0.0, False
    while rig.now < 250.0:
        rig.tick(0.05)
        now = rig.now
        commands = scheduler.tick(now + skew)
        for word in _due(lines[0], now):
            if known or isinstance(word, HubHello):
                commands += scheduler.handle("hub:h", word, now + skew)
        for word in _due(lines[1], now):
            if isinstance(word, (Welcome, Heartbeat)):
                rig.core(word)
        if rig.slots._lease.leased_at:
            stopped_at = 0.0
        elif not stopped_at:
            stopped_at = now
        was_known, known = known, "hub:h" in scheduler.state.hubs
        if was_known and not known:
            assert 0.0 < stopped_at <= now - 0.4, "the core gives its work to others and the hub does not know"
            return
        for line, loss, words in zip(
            lines, losses, (rig.said, [c.message for c in commands if isinstance(c, Send)]), strict=True
        ):
            for word in words:
                if now < 105.0:
                    line.append((now + 0.01, word))
                elif random.random() >= loss:
                    late = now + random.random() * patience_s
                    line.append((max([late, *(at for at, _ in line[-1:])]), word))  # in order, as a connection is
        rig.said = []
    assert losses != (1.0, 1.0)


def _due(line: list[tuple[float, Message]], now: float) -> list[Message]:
    due = [word for at, word in line if at <= now]
    line[:] = [word for word in line if word[0] > now]
    return due


def test_the_way_is_the_quickest_of_the_latest_answers() -> None:
    one = tie()
    assert one.way_s == 0.0
    for at, took in ((101.0, 0.3), (102.0, 0.02), (103.0, 0.05)):
        one.acknowledge(at, at + took)
    assert one.way_s == pytest.approx(0.02)
    for n in range(MEASURED):
        one.acknowledge(104.0 + n, 104.0 + n + 0.1)
    assert one.way_s == pytest.approx(0.1), "the way may have become longer"
    one.drop(120.0)
    assert one.way_s == 0.0, "the next line may be another one"
