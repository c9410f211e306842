"""The session: which messages are sent when, and that each end counts once, whatever the network does."""

from __future__ import annotations

import msgspec
import pytest

from nblb.client.session.open_tasks import Expect
from nblb.client.session.session import COLLECT_AFTER_S, SILENT_BEATS, Session
from nblb.protocol.commands import BlobReceived, Command, Deliver, Log, Reject, Send, Settle, Show
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
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
    JobNamed,
    Message,
    OpenJob,
    Publish,
    PutBlob,
    Refused,
    RetryFailed,
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
    """What is said; how long the client has been here is another matter."""
    said = [command.message for command in commands if isinstance(command, Send)]
    return [msgspec.structs.replace(each, here_s=-1.0) if isinstance(each, Hello) else each for each in said]


def test_each_hello_says_since_when_the_client_has_been_here() -> None:
    session = Session(HELLO)
    times = [session.line_up(10.0), session.tick(10.5), session.line_up(17.0)]
    hellos = [command.message for commands in times for command in commands if isinstance(command, Send)]
    assert [hello.here_s for hello in hellos if isinstance(hello, Hello)] == [0.0, 0.5, 7.0]


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


def test_a_core_without_room_for_a_new_line_costs_nothing(session: Session) -> None:
    full = Refused(kind="LoadBalancerUnreachable", reason="no file descriptor left")
    session.handle("user", submit(), 0.0)
    session.line_down(1.0)
    session.line_up(2.0)
    assert session.handle("core", full, 2.1) == []
    session.line_down(2.2)
    session.line_up(3.0)
    assert submit() in sent(session.handle("core", welcome(), 3.1))
    assert session.refusal is None


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
    assert sent(session.tick(1.0 + COLLECT_AFTER_S)) == [CollectTask(tasks=("t1", "t2"))]
    assert session.records == {}
    assert session.unaccepted == {}


def test_flush_says_at_once_what_was_collected(session: Session) -> None:
    session.handle("user", submit(), 0.0)
    session.handle("core", end(), 1.0)
    assert sent(session.flush(1.0)) == [CollectTask(tasks=("t1",))]


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
    assert rejected == Reject("t1", Failure(kind="TooManyQueuedTasks", message="full"), submit())
    assert session.handle("core", TaskRejected(task="t1", kind="TooManyQueuedTasks", reason="full"), 0.0) == []
    session.handle("user", submit("t2").__class__(task="t2", name="f", function="0" * 32), 0.0)
    (lost,) = session.handle("core", BlobMissing(hash="0" * 32), 0.0)
    assert isinstance(lost, Reject)
    assert "nor this process" in lost.failure.message


def test_idle_blobs_are_dropped_beyond_a_bound(session: Session) -> None:
    blobs = [PutBlob(hash=f"{n:032}", payload=Payload((bytes(20 * 1024 * 1024),))) for n in range(5)]
    session.handle("user", blobs[0], 0.0)
    session.handle("user", SubmitTask(task="t", name="f", function=blobs[0].hash), 0.0)
    for blob in blobs[1:]:
        session.handle("user", blob, 0.0)
    assert list(session.blobs) == [blob.hash for blob in (blobs[0], *blobs[2:])], "a blob in use is never dropped"
    session.handle("core", end("t"), 0.0)
    assert list(session.blobs) == [blob.hash for blob in blobs[2:]]


def test_a_late_copy_that_is_accepted_after_the_refusal_is_cancelled(session: Session) -> None:
    """The task was said twice; the first was refused, and the second found room."""
    session.handle("user", submit(), 0.0)
    session.handle("core", TaskRejected(task="t1", kind="JournalFull", reason="full"), 0.0)
    cancel = Send("core", CancelTask(request=-1, task="t1"))
    assert session.handle("core", TaskAccepted(tasks=("t0", "t1")), 0.0) == [cancel]
    assert session.handle("core", TaskAccepted(task="t1"), 0.0) == []
    session.line_down(1.0)
    session.line_up(1.0)
    assert cancel in session.handle("core", welcome(), 1.0)  # until it is answered
    assert session.handle("core", CancelAnswer(request=-1, cancelled=1), 1.0) == []
    session.line_up(2.0)
    assert cancel not in session.handle("core", welcome(), 2.0)


def test_a_refused_task_that_is_submitted_again_is_wanted(session: Session) -> None:
    session.handle("user", submit(), 0.0)
    session.handle("core", TaskRejected(task="t1", kind="TooManyQueuedTasks", reason="full"), 0.0)
    session.handle("user", submit(), 0.0)
    assert session.handle("core", TaskAccepted(task="t1"), 0.0) == []
    assert session.handle("core", TaskAccepted(task="t1"), 0.0) == []


def test_refusal_fails_all_that_waits(session: Session) -> None:
    session.handle("user", submit(), 0.0)
    session.handle("user", Ask(request=3, topic="status"), 0.0)
    out = session.handle("core", Refused(kind="NotAllowed", reason="you may not"), 1.0)
    assert Reject("t1", Failure(kind="NotAllowed", message="you may not"), submit()) in out
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
        assert session.handle("core", message, 0.0) == [BlobReceived(message)]
    assert sent(session.handle("user", Publish(name="f", hash=BLOB.hash), 0.0)) == [Publish(name="f", hash=BLOB.hash)]


def test_what_runs_again_is_expected_again(session: Session) -> None:
    session.handle("user", submit(items=4, job="j1"), 0.0)
    session.handle("core", TaskAccepted(task="t1"), 0.0)
    session.handle("core", end(items=4, holes=(1, 2)), 0.0)
    failed = TaskEnded(task="t1", state=TaskState.FAILED, first=1, items=2, failure=Failure(kind="E"))
    assert session.handle("core", failed, 0.0) == [Settle(failed, ((1, 2),))]
    retry = RetryFailed(request=9, job="j1")
    assert sent(session.handle("user", retry, 1.0)) == [retry]
    session.line_down(1.0)
    session.line_up(1.0)
    assert retry in sent(session.handle("core", welcome(), 1.0)), "said again until it is answered"
    assert session.handle("core", failed, 1.0) == [], "the old end, once more"
    assert session.handle("core", Answer(request=9, value=2), 1.0) == [Deliver(9, 2)]
    assert session.handle("user", Expect(task="t1", items=4, job="j1", again=((1, 2),)), 1.0) == []
    assert session.handle("core", end(items=4, holes=(1, 2)), 1.0) == [], "these ends are known"
    assert session.handle("core", end(first=1, items=2), 1.0) == [Settle(end(first=1, items=2), ((1, 2),))]
    assert session.records == {}


def test_of_an_open_record_only_what_runs_again_is_expected_again(session: Session) -> None:
    session.handle("user", submit(items=3, job="j1"), 0.0)
    session.handle("core", end(first=0, items=2), 0.0)
    session.handle("user", Expect(task="t1", items=3, job="j1", again=((1, 1),)), 1.0)
    everything = end(first=0, items=3)
    assert session.handle("core", everything, 1.0) == [Settle(everything, ((1, 2),))]
    assert session.records == {}


def test_the_name_that_the_core_gives_a_job_is_told(session: Session) -> None:
    session.handle("user", JOB, 0.0)
    assert session.handle("core", JobNamed(job="j1", name="sweep-2"), 0.0) == [
        BlobReceived(JobNamed(job="j1", name="sweep-2"))
    ]


def test_ends_of_single_tasks_settle_once_and_are_collected(session: Session) -> None:
    for task in ("t1", "t2", "t3"):
        session.handle("user", submit(task, job="j1" if task == "t3" else ""), 1.0)
    for task in ("t2", "t3", "t1"):
        ended = end(task)
        assert session.handle("core", ended, 2.0) == [Settle(ended, ((0, 1),))]
        assert session.handle("core", ended, 2.0) == []
    assert session.records == session.unaccepted == {}
    assert session.flush(3.0) == [Send("core", CollectTask(tasks=("t2", "t1")))]


def test_a_job_that_is_forgotten_is_said_no_more(session: Session) -> None:
    session.handle("user", JOB, 1.0)
    session.handle("user", BLOB, 1.0)
    session.handle("user", submit("t1", items=3, job="j1"), 1.0)
    session.handle("user", submit("t2", items=2, job="j1"), 1.0)
    session.handle("core", TaskAccepted(task="t1"), 1.0)
    forget = ForgetJob(job="j1", request=4)
    commands = session.handle("user", forget, 1.0)
    cancelled = TaskEnded(task="t2", items=2, state=TaskState.CANCELLED)
    assert commands == [Settle(cancelled, ((0, 2),)), Send("core", forget)]
    session.line_down(2.0)
    session.line_up(3.0)
    said = sent(session.handle("core", welcome(epoch=2), 3.0))
    assert said == [FetchTask(task="t1"), forget], "else a core that has restarted would have the job again"
    assert session.handle("core", Answer(request=4, value=True), 3.0) == [Deliver(4, True, "", "")]
    assert not session.questions
