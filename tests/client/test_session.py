"""The session: what is said when, and that an end counts once, whatever the network does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.client.session import COLLECT_AFTER_S, SILENT_BEATS, Expect, Session, Told
from nblb.commands import Command, Deliver, Log, Reject, Send, Settle, Show
from nblb.framing import Payload
from nblb.messages import (
    Answer,
    Ask,
    BlobMissing,
    CancelAnswer,
    CancelTask,
    CollectTask,
    Failure,
    FetchTask,
    ForgetJob,
    Heartbeat,
    Hello,
    JobChanged,
    Message,
    OpenJob,
    Publish,
    PutBlob,
    Refused,
    ScaleHub,
    StopCore,
    SubmitTask,
    TaskAccepted,
    TaskChanged,
    TaskEnded,
    TaskPrinted,
    TaskRejected,
    TaskState,
    Welcome,
)

HELLO = Hello(client="c1", user="me")
BLOB = PutBlob(hash="f" * 32, payload=Payload((b"function",)))
JOB = OpenJob(job="j1", name="sweep", items=10)
DONE = TaskState.DONE


def submit(task: str = "t1", items: int = 1, job: str = "") -> SubmitTask:
    return SubmitTask(task=task, name="f", function=BLOB.hash, items=items, job=job)


def end(task: str = "t1", first: int = 0, items: int = 1, holes: tuple[int, ...] = ()) -> TaskEnded:
    return TaskEnded(task=task, state=DONE, first=first, items=items, payload=Payload((b"r",)), holes=holes)


def welcome(epoch: int = 1, core: str = "core1") -> Welcome:
    return Welcome(core=core, epoch=epoch, name="lab", user="me")


def sent(commands: list[Command]) -> list[Message]:
    return [command.message for command in commands if isinstance(command, Send)]


@pytest.fixture
def session() -> Session:
    """One that the core has greeted."""
    session = Session(HELLO)
    session.line_up(0.0)
    session.handle("core", welcome(), 0.0)
    return session


def test_greets_when_the_line_is_up_and_again_until_it_is_welcome() -> None:
    session = Session(HELLO)
    assert session.next_deadline() is None
    assert sent(session.line_up(1.0)) == [HELLO]
    assert session.next_deadline() == 1.5
    assert sent(session.tick(1.4)) == []
    assert sent(session.tick(1.5)) == [HELLO]
    assert sent(session.tick(2.5)) == [HELLO]
    session.handle("core", welcome(), 2.6)
    assert session.open
    assert session.welcome == welcome()
    assert session.handle("core", welcome(), 2.7) == []


def test_what_is_submitted_while_open_leaves_at_once(session: Session) -> None:
    said = [*session.handle("user", BLOB, 1.0), *session.handle("user", submit(), 1.0)]
    assert sent(said) == [BLOB, submit()]
    assert session.handle("user", BLOB, 1.0) == []
    assert sent(session.handle("user", submit("t2"), 1.0)) == [submit("t2")]
    assert session.handle("user", submit("t2"), 1.0) == []


def test_what_is_submitted_before_is_said_in_order_at_the_welcome() -> None:
    session = Session(HELLO)
    asked = Ask(request=1, topic="status")
    for message in (BLOB, JOB, submit("t1", 5, "j1"), submit("t2"), ForgetJob(job="j0"), asked):
        assert sent(session.handle("user", message, 0.0)) == []
    session.line_up(1.0)
    assert sent(session.handle("core", welcome(), 1.0)) == [
        JOB,
        BLOB,
        submit("t1", 5, "j1"),
        submit("t2"),
        ForgetJob(job="j0"),
        Ask(request=1, topic="status"),
    ]


def test_after_a_reconnect_the_unaccepted_is_said_and_the_rest_fetched(session: Session) -> None:
    for message in (BLOB, JOB, submit("t1", 5, "j1"), submit("t2"), submit("t3")):
        session.handle("user", message, 0.0)
    session.handle("core", TaskAccepted(task="t1"), 0.1)
    session.handle("core", TaskAccepted(task="t3"), 0.1)
    session.handle("core", end("t3"), 0.2)
    assert [type(c) for c in session.line_down(1.0)] == [Log]
    assert session.line_down(1.0) == []
    session.line_up(2.0)
    assert sent(session.handle("core", welcome(2), 2.0)) == [
        JOB,
        BLOB,
        submit("t2"),
        FetchTask(task="t1"),
    ]


def test_the_same_core_greeted_anew_is_told_what_it_may_not_have_heard(session: Session) -> None:
    session.handle("user", BLOB, 0.0)
    session.handle("user", submit(), 0.0)
    assert sent(session.handle("core", Refused(kind="UnknownParty", reason="say hello"), 1.0)) == [HELLO]
    assert session.handle("core", Refused(kind="UnknownParty", reason="say hello"), 1.0) == []
    assert sent(session.handle("core", welcome(), 1.1)) == [BLOB, submit()]


def test_silence_is_noticed_and_heartbeats_are_sent_only_in_silence(session: Session) -> None:
    assert session.next_deadline() == 1.0
    assert sent(session.tick(1.0)) == [Heartbeat()]
    assert session.handle("core", Heartbeat(), 1.01) == []
    session.handle("user", BLOB, 1.5)
    session.handle("core", TaskAccepted(task="x"), 1.6)
    assert session.tick(2.0) == []
    out = session.tick(1.6 + SILENT_BEATS + 0.01)
    assert not session.open
    assert isinstance(out[0], Log)
    assert sent(out) == [HELLO]


def test_an_end_settles_and_is_collected_later_with_others(session: Session) -> None:
    for task in ("t1", "t2"):
        session.handle("user", submit(task), 0.0)
    assert session.handle("core", end("t1"), 1.0) == [Settle(end("t1"), ((0, 1),))]
    assert session.handle("core", end("t1"), 1.0) == []
    session.handle("core", end("t2"), 1.1)
    session.tick(1.1)  # a heartbeat
    assert session.next_deadline() == pytest.approx(1.0 + COLLECT_AFTER_S)
    assert sent(session.tick(1.0 + COLLECT_AFTER_S)) == [CollectTask(task="t1"), CollectTask(task="t2")]
    assert session.records == {}
    assert session.unaccepted == {}


def test_flush_says_at_once_what_was_collected(session: Session) -> None:
    session.handle("user", submit(), 0.0)
    session.handle("core", end(), 1.0)
    assert sent(session.flush(1.0)) == [CollectTask(task="t1")]


def test_slices_settle_in_any_order_with_holes(session: Session) -> None:
    session.handle("user", JOB, 0.0)
    session.handle("user", submit("t1", 10, "j1"), 0.0)
    failed = TaskEnded(task="t1", state=TaskState.FAILED, first=6, failure=Failure(kind="ValueError"))
    assert session.handle("core", end("t1", 4, 6, holes=(2,)), 1.0) == [
        Settle(end("t1", 4, 6, holes=(2,)), ((4, 2), (7, 3)))
    ]
    assert session.handle("core", failed, 1.0) == [Settle(failed, ((6, 1),))]
    assert session.handle("core", end("t1", 0, 10), 1.0) == [Settle(end("t1", 0, 10), ((0, 4),))]
    assert session.handle("core", end("t1", 0, 10), 1.0) == []
    assert session.jobs == {}
    assert CollectTask not in map(type, sent(session.tick(2.0))), "items of jobs are not collected one by one"


def test_an_executors_job_stays_open(session: Session) -> None:
    session.handle("user", OpenJob(job="e", name="executor", items=0), 0.0)
    session.handle("user", submit("t1", job="e"), 0.0)
    session.handle("core", end("t1"), 0.0)
    assert "e" in session.jobs
    session.handle("user", ForgetJob(job="e"), 0.0)
    assert session.jobs == {}


def test_rejections_and_missing_blobs(session: Session) -> None:
    session.handle("user", BLOB, 0.0)
    session.handle("user", submit(), 0.0)
    assert sent(session.handle("core", BlobMissing(hash=BLOB.hash), 0.0)) == [BLOB]
    (rejected,) = session.handle("core", TaskRejected(task="t1", kind="TooManyQueuedTasks", reason="full"), 0.0)
    assert rejected == Reject("t1", Failure(kind="TooManyQueuedTasks", message="full"))
    assert session.handle("core", TaskRejected(task="t1", kind="TooManyQueuedTasks", reason="full"), 0.0) == []
    session.handle("user", submit("t2").__class__(task="t2", name="f", function="0" * 32), 0.0)
    (lost,) = session.handle("core", BlobMissing(hash="0" * 32), 0.0)
    assert isinstance(lost, Reject)
    assert "nor do we" in lost.failure.message


def test_idle_blobs_are_dropped_beyond_a_bound(session: Session) -> None:
    blobs = [PutBlob(hash=f"{n:032}", payload=Payload((bytes(20 * 1024 * 1024),))) for n in range(5)]
    session.handle("user", blobs[0], 0.0)
    session.handle("user", SubmitTask(task="t", name="f", function=blobs[0].hash), 0.0)
    for blob in blobs[1:]:
        session.handle("user", blob, 0.0)
    assert list(session.blobs) == [blob.hash for blob in (blobs[0], *blobs[2:])], "a blob in use is never dropped"
    session.handle("core", end("t"), 0.0)
    assert list(session.blobs) == [blob.hash for blob in blobs[2:]]


def test_refusal_fails_all_that_waits(session: Session) -> None:
    session.handle("user", submit(), 0.0)
    session.handle("user", Ask(request=3, topic="status"), 0.0)
    out = session.handle("core", Refused(kind="NotAllowed", reason="you may not"), 1.0)
    assert Reject("t1", Failure(kind="NotAllowed", message="you may not")) in out
    assert Deliver(3, error="you may not", kind="NotAllowed") in out
    assert session.refusal is not None
    assert not session.open
    assert session.next_deadline() is None


def test_questions(session: Session) -> None:
    assert sent(session.handle("user", Ask(request=1, topic="hubs"), 0.0)) == [Ask(request=1, topic="hubs")]
    session.handle("user", CancelTask(request=2, task="t1"), 0.0)
    session.handle("user", ScaleHub(hub="h", workers=3, request=3), 0.0)
    session.handle("user", StopCore(request=4), 0.0)
    session.line_down(1.0)
    session.line_up(2.0)
    assert sent(session.handle("core", welcome(2), 2.0)) == [
        Ask(request=1, topic="hubs"),
        CancelTask(request=2, task="t1"),
        ScaleHub(hub="h", workers=3, request=3),
    ], "StopCore was meant for the core that has gone"
    assert session.handle("core", Answer(request=1, value=[1]), 2.1) == [Deliver(1, [1])]
    assert session.handle("core", Answer(request=1, value=[1]), 2.1) == []
    assert session.handle("core", CancelAnswer(request=2, cancelled=5, source="queue"), 2.1) == [
        Deliver(2, (5, "queue"))
    ]
    assert session.handle("core", CancelAnswer(request=2), 2.1) == []


def test_expected_records_are_fetched_after_a_reconnect(session: Session) -> None:
    assert session.handle("user", Expect(task="old", items=3, job="j"), 0.0) == []
    assert sent(session.handle("user", FetchTask(job="j"), 0.0)) == [FetchTask(job="j")]
    session.line_down(1.0)
    session.line_up(2.0)
    assert sent(session.handle("core", welcome(), 2.0)) == [FetchTask(task="old")]


def test_what_is_only_to_be_shown(session: Session) -> None:
    session.handle("user", submit(), 0.0)
    changed = TaskChanged(task="t1", state=TaskState.RUNNING)
    assert session.handle("core", changed, 0.0) == [Show(changed)]
    assert session.handle("core", TaskChanged(task="t9", state=TaskState.RUNNING), 0.0) == []
    for message in (JobChanged(job="j", counts={}), TaskPrinted(task="t1", attempt=1, text="x")):
        assert session.handle("core", message, 0.0) == [Told(message)]
    assert sent(session.handle("user", Publish(name="f", hash=BLOB.hash), 0.0)) == [Publish(name="f", hash=BLOB.hash)]


# ── whatever the network does ──


class Network:
    """A core that keeps everything it accepts, behind a line that loses, repeats and mixes up what it carries."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.session = Session(HELLO)
        self.accepted: dict[str, SubmitTask] = {}
        self.blobs: set[str] = set()
        self.ran: dict[str, list[TaskEnded]] = {}
        self.settled: dict[tuple[str, int], int] = {}
        self.to_core: list[Message] = []
        self.to_client: list[Message] = []
        self.epoch = 0
        self.now = 0.0
        self.up = False

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Send) and self.up:
                self.to_core.append(command.message)
            if isinstance(command, Settle):
                for first, items in command.fresh:
                    for item in range(first, first + items):
                        key = (command.ended.task, item)
                        self.settled[key] = self.settled.get(key, 0) + 1

    def user(self, message: Message) -> None:
        self.perform(self.session.handle("user", message, self.now))

    def connect(self, restart: bool) -> None:
        self.disconnect()
        self.epoch += restart
        self.up = True
        self.perform(self.session.line_up(self.now))

    def disconnect(self) -> None:
        """All that is under way is lost, some of it after it was heard."""
        if self.up:
            self.deliver_some(self.to_core, self.core_hears)
        self.to_core.clear()
        self.to_client.clear()
        self.up = False
        self.perform(self.session.line_down(self.now))

    def deliver_some(self, queue: list[Any], hear: Callable[[Any], None]) -> None:
        for _ in range(self.chance.randint(0, len(queue))):
            hear(queue.pop(0))

    def core_hears(self, message: Message) -> None:
        tell = self.to_client.append
        if isinstance(message, Hello):
            tell(Welcome(core="core", epoch=self.epoch, name="lab"))
        elif isinstance(message, PutBlob):
            self.blobs.add(message.hash)
        elif isinstance(message, SubmitTask):
            if message.function not in self.blobs:
                tell(BlobMissing(hash=message.function))
                self.to_core.append(message)  # parked until the blob is there
                return
            self.accepted.setdefault(message.task, message)
            tell(TaskAccepted(task=message.task))
            self.to_client += self.ran.get(message.task, [])
        elif isinstance(message, FetchTask):
            self.to_client += self.ran.get(message.task, [])

    def run_something(self) -> None:
        """A slice of some record ends; ends may be told twice and late."""
        for task, spec in self.accepted.items():
            ends = self.ran.setdefault(task, [])
            known = {n for e in ends for n in range(e.first, e.first + e.items) if n - e.first not in e.holes}
            open_items = [n for n in range(spec.items) if n not in known]
            if open_items and self.chance.random() < 0.7:
                first = open_items[0]
                last = self.chance.randint(first, spec.items - 1)
                holes = tuple(n - first for n in range(first, last + 1) if n in known or self.chance.random() < 0.2)
                if len(holes) <= last - first:
                    ends.append(end(task, first, last - first + 1, holes))
                    if self.up:
                        self.to_client.append(ends[-1])

    def client_hears(self, message: Message) -> None:
        self.perform(self.session.handle("core", message, self.now))

    def disturb(self) -> None:
        if self.to_client and self.chance.random() < 0.3:
            self.to_client.append(self.chance.choice(self.to_client))
        if self.chance.random() < 0.2:
            self.chance.shuffle(self.to_client)

    def settle_down(self) -> None:
        """The network is well again: everything must come to its end."""
        self.connect(restart=self.chance.random() < 0.5)
        for _ in range(200):
            self.now += 0.6
            self.perform(self.session.tick(self.now))
            for _ in range(len(self.to_core)):
                self.core_hears(self.to_core.pop(0))
            self.run_something()
            for message in self.to_client[:]:
                self.client_hears(message)
            self.to_client.clear()
            if not self.session.records:
                return


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80))
def test_every_item_settles_exactly_once(seed: int, length: int) -> None:
    network = Network(random.Random(seed))
    submitted: dict[str, int] = {}
    for step in network.chance.choices("ssrrrhhhhllllcdku", k=length):
        network.now += 0.1
        if step == "s":
            task, items = f"t{len(submitted)}", network.chance.choice([1, 1, 3, 8])
            submitted[task] = items
            network.user(BLOB)
            network.user(submit(task, items))
        elif step == "r":
            network.run_something()
        elif step == "c":
            network.connect(restart=False)
        elif step == "k":
            network.connect(restart=True)
        elif step == "d":
            network.disconnect()
        elif step == "h" and network.up:
            network.deliver_some(network.to_core, network.core_hears)
        elif step == "l" and network.up:
            network.disturb()
            network.deliver_some(network.to_client, network.client_hears)
        elif step == "u":
            network.perform(network.session.tick(network.now))
    network.settle_down()
    expected = {(task, item): 1 for task, items in submitted.items() for item in range(items)}
    assert network.settled == expected
    assert not network.session.records
    assert not network.session.unaccepted
