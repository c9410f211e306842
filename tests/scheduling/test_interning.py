"""Equal values of many tasks share their memory."""

from __future__ import annotations

from nblb.protocol.framing import Payload
from nblb.protocol.messages import SubmitTask, client_to_core
from nblb.scheduling import submission
from nblb.scheduling.state import Policy
from nblb.scheduling.submission import Interning
from tests.scheduling.world import World

FIELDS = ("name", "function", "user", "python", "origin", "job")


def decoded(task: str, **fields: object) -> SubmitTask:
    spec = SubmitTask(
        **{"task": task, "name": "simulate", "function": "f" * 64, "user": "anna", "python": (3, 11), **fields}
    )  # type: ignore[arg-type]
    (message,) = client_to_core.decode(client_to_core.encode([spec]))
    return message


def test_equal_words_become_one_object_and_stay_what_they_are() -> None:
    words, one, other = (
        Interning(),
        decoded("a", origin="work.ipynb", job="j1"),
        decoded("b", origin="work.ipynb", job="j1"),
    )
    assert one.function is not other.function
    words.share(one)
    words.share(other)
    assert other == decoded("b", origin="work.ipynb", job="j1")
    assert all(getattr(one, field) is getattr(other, field) for field in FIELDS)


def test_a_task_that_differs_keeps_its_own() -> None:
    words, one, other = Interning(), decoded("a"), decoded("b", function="g" * 64, constants=("c",))
    words.share(one)
    words.share(other)
    assert (other.function, other.constants) == ("g" * 64, ("c",))


def test_made_up_words_are_not_remembered_for_ever(monkeypatch) -> None:
    monkeypatch.setattr(submission, "MOST_INTERNED", 10)
    words = Interning()
    for n in range(100):
        words.share(decoded(str(n), name=f"name{n}"))
        assert words.alone(f"client:{n}") == (f"client:{n}",)
    assert len(words._known) <= 16
    assert len(words._alone) <= 11


def test_the_scheduler_shares_the_words_of_its_tasks() -> None:
    world = World(Policy(core="c"))
    world.client("client:a", "anna")
    for task in ("a", "b"):
        world.say("client:a", decoded(task, function="f", payload=Payload((b"x",))))
    one, other = (world.scheduler.state.records[task] for task in ("a", "b"))
    assert one.spec.name is other.spec.name
    assert one.watchers is other.watchers
    assert one.kind is other.kind
