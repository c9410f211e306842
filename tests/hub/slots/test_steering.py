"""Knobs, emissions and "stop early and keep" on their way through a hub's slots."""

from __future__ import annotations

from nblb.protocol.commands import Steer
from nblb.protocol.framing import Payload
from nblb.protocol.messages import KnobOffered, StopAndKeep, TaskEmitted, TurnKnob, Welcome
from tests.hub.slots_rig import SlotsRig

VALUE = Payload((b"value",))


def test_what_a_task_says_goes_to_the_core() -> None:
    rig = SlotsRig()
    run = rig.run("t")
    emitted = TaskEmitted(task="t", attempt=1, payload=VALUE)
    rig.worker(rig.holder(run), emitted)
    assert rig.messages(TaskEmitted) == [emitted]


def test_words_of_an_attempt_that_was_replaced_are_not_passed_on() -> None:
    rig = SlotsRig()
    run = rig.run("t")
    rig.worker(rig.holder(run), TaskEmitted(task="t", attempt=0, payload=VALUE))
    rig.worker(rig.holder(run), KnobOffered(task="other", attempt=1, name="k", value=1))
    assert not rig.said


def test_the_latest_words_are_said_again_to_a_core_that_was_restarted() -> None:
    rig = SlotsRig()
    run = rig.run("t")
    worker = rig.holder(run)
    rig.tick(1.0)
    for number in range(3):
        rig.worker(worker, TaskEmitted(task="t", attempt=1, bundle=str(number)))
        rig.worker(worker, KnobOffered(task="t", attempt=1, name="lr", value=number))
    rig.worker(worker, KnobOffered(task="t", attempt=1, name="other", value=9))
    rig.forget()
    rig.slots.line_up(rig.now)
    rig.tick()
    rig.core(Welcome(core="c", epoch=2, name="lab"))
    assert [message.bundle for message in rig.messages(TaskEmitted)] == ["2"]
    assert [(message.name, message.value) for message in rig.messages(KnobOffered)] == [("lr", 2), ("other", 9)]


def test_a_turned_knob_goes_to_the_worker_that_is_at_the_task() -> None:
    rig = SlotsRig()
    run = rig.run("t")
    rig.core(TurnKnob(task="t", attempt=1, item=0, name="lr", value=0.5))
    rig.core(TurnKnob(task="t", attempt=7, item=0, name="lr", value=9))  # of another attempt
    rig.core(TurnKnob(task="unknown", attempt=1, name="lr", value=9))
    assert rig.commands(Steer) == [Steer(rig.holder(run), "t", 1, 0, 0, "lr", 0.5)]


def test_a_knob_of_a_task_that_waits_is_told_when_it_begins() -> None:
    rig = SlotsRig()
    first = rig.run("first")
    rig.run("second")
    for value in (1, 2):
        rig.core(TurnKnob(task="second", attempt=1, name="k", value=value))
    rig.core(TurnKnob(task="second", attempt=1, name="other", value=3))
    assert not rig.commands(Steer)
    rig.finish(first)
    assert [(c.task, c.knob, c.value) for c in rig.commands(Steer)] == [("second", "k", 2), ("second", "other", 3)]


def test_stop_and_keep_is_for_what_runs() -> None:
    rig = SlotsRig()
    run = rig.run("t")
    rig.run("waits")
    rig.core(StopAndKeep(task="waits", attempt=1))
    rig.core(StopAndKeep(task="t", attempt=1, item=0))
    assert rig.commands(Steer) == [Steer(rig.holder(run), "t", 1, 0, 0, "", None, True)]
