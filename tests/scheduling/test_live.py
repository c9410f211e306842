"""The live state of tasks is kept within bounds."""

from __future__ import annotations

from nblb.protocol.framing import Payload
from nblb.protocol.messages import KnobOffered, TaskEmitted, TaskPrinted
from nblb.scheduling.live import DISPLAY_BYTES, MOST_DISPLAYS, MOST_KNOBS, OUTPUT_TAIL, Live


def printed(task: str, text: str, stream: str = "stdout", offset: int = 0) -> TaskPrinted:
    return TaskPrinted(task=task, attempt=1, stream=stream, text=text, offset=offset)


def test_each_item_has_its_own_output() -> None:
    live = Live()
    live.printed(printed("t", "zero "))
    live.printed(printed("t", "one", offset=1))
    live.printed(printed("t", "more"))
    live.printed(printed("t", "error", "stderr"))
    zero, one = live.get("t", 0), live.get("t", 1)
    assert zero is not None
    assert one is not None
    assert zero.output == {"stdout": "zero more", "stderr": "error"}
    assert one.output == {"stdout": "one"}
    assert [item for item, _ in live.of_record("t")] == [0, 1]


def test_output_and_pictures_of_an_item_are_bounded() -> None:
    live = Live()
    for number in range(3 * MOST_DISPLAYS):
        live.printed(printed("t", "x" * 10_000))
        live.printed(printed("t", f"{number}", "display"))
    item = live.get("t", 0)
    assert item is not None
    assert len(item.output["stdout"]) == OUTPUT_TAIL
    assert list(item.displays)[-1] == f"{3 * MOST_DISPLAYS - 1}"
    assert len(item.displays) == MOST_DISPLAYS
    for _ in range(5):
        live.printed(printed("t", "y" * (DISPLAY_BYTES // 2), "display"))
    assert sum(map(len, item.displays)) <= DISPLAY_BYTES


def test_only_the_latest_emission_counts_and_knobs_are_few() -> None:
    live = Live()
    for number in range(10):
        live.emitted(TaskEmitted(task="t", attempt=1, payload=Payload((b"x" * 1000,)), bundle=str(number)))
    taken = [live.offered(KnobOffered(task="t", attempt=1, name=str(n), value=n)) for n in range(MOST_KNOBS + 5)]
    item = live.get("t", 0)
    assert item is not None
    assert item.emitted is not None
    assert item.emitted.bundle == "9"
    assert taken.count(True) == len(item.knobs) == MOST_KNOBS
    assert live.nbytes < 100_000


def test_all_together_are_bounded_and_the_oldest_go() -> None:
    live = Live(max_bytes=50_000)
    for number in range(100):
        live.printed(printed(f"t{number}", "x" * 1000))
        live.printed(printed("kept", "."))  # written to all the time
    assert live.nbytes <= 50_000
    assert live.get("t0", 0) is None
    assert live.get("t99", 0) is not None
    assert live.get("kept", 0) is not None


def test_what_is_forgotten_takes_its_bytes_along() -> None:
    live = Live()
    for item in range(5):
        live.printed(printed("t", "x" * 100, offset=item))
    live.drop("t")
    live.drop("t")
    assert (live.nbytes, live.of_record("t")) == (0, [])
