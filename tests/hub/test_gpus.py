"""The division of a hub's GPUs among its workers, who uses them, and a card that falls off the bus."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Collection
from typing import Any

import pytest

from nblb.errors import ParametersError
from nblb.hub import gpus
from nblb.hub.gpus import HubGpus, Pins
from nblb.parameters import load
from nblb.protocol.commands import Command, RetireWorker
from nblb.protocol.messages import CardUse, Group, WorkerDied, WorkerStarted
from nblb.system import gpu_cards
from nblb.system.gpu_cards import GpuCard
from tests.fake_pynvml import FakeCard, module, seven_slices, two_cards
from tests.hub.pool_rig import PoolRig

ONE, OTHER = GpuCard("GPU-aaaa"), GpuCard("GPU-bbbb")


@pytest.fixture(autouse=True)
def no_amd(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    shown = gpu_cards.visible_cards
    monkeypatch.setattr(gpu_cards, "visible_cards", lambda nvml, environment: shown(nvml, environment, tmp_path))


def divide(
    monkeypatch: pytest.MonkeyPatch,
    cards: tuple[FakeCard, ...] | None,
    *groups: dict[str, Any],
    workers: int | None = None,
    **environment: str,
) -> tuple[tuple[Group, ...], HubGpus]:
    monkeypatch.setitem(sys.modules, "pynvml", module(*cards) if cards is not None else None)
    parameters = load({"WKHUB_WORKERS": [{"nWorkers": 1, **group} for group in groups]})
    return gpus.divided(parameters, parameters.groups(workers), workers is not None, environment)


def ids(found: HubGpus) -> list[list[str]]:
    return [["+".join(card.id for card in place) for place in places] for places in found.pins.places]


@pytest.mark.parametrize(
    ("group", "each", "places"),
    [
        ({"gpus": 1, "nWorkers": 2}, 1.0, ["GPU-aaaa", "GPU-bbbb"]),
        ({"gpus": 2}, 2.0, ["GPU-aaaa+GPU-bbbb"]),
        ({"gpus": 0.5, "nWorkers": 4}, 0.5, ["GPU-aaaa", "GPU-aaaa", "GPU-bbbb", "GPU-bbbb"]),
        ({"gpus": 0.5, "nWorkers": 3}, 0.5, ["GPU-aaaa", "GPU-aaaa", "GPU-bbbb"]),
        ({"gpus": "auto"}, 2.0, ["GPU-aaaa+GPU-bbbb"]),
        ({"gpus": "auto", "nWorkers": 4}, 0.5, ["GPU-aaaa", "GPU-aaaa", "GPU-bbbb", "GPU-bbbb"]),
        ({"gpus": "auto", "nWorkers": "auto"}, 1.0, ["GPU-aaaa", "GPU-bbbb"]),
        ({"gpus": 0.5, "nWorkers": "auto"}, 0.5, ["GPU-aaaa", "GPU-aaaa", "GPU-bbbb", "GPU-bbbb"]),
        ({"gpus": [1]}, 1.0, ["GPU-bbbb"]),
        ({"gpus": ["GPU-b", 0], "nWorkers": 2}, 1.0, ["GPU-bbbb", "GPU-aaaa"]),
    ],
)
def test_two_cards_are_divided(
    monkeypatch: pytest.MonkeyPatch, group: dict[str, Any], each: float, places: list[str]
) -> None:
    (made,), found = divide(monkeypatch, two_cards(), group)
    assert (made.has.gpus, made.has.reserved, made.workers) == (each, True, len(places))
    assert ids(found) == [places]


def test_groups_get_different_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {"gpus": [1]}, {"nWorkers": 3}, {"gpus": "auto"}
    made, found = divide(monkeypatch, two_cards(), *groups)
    assert ids(found) == [["GPU-bbbb"], [], ["GPU-aaaa"]]
    assert [group.has.gpus for group in made] == [1.0, 0.0, 1.0]
    assert found.most_workers == {0: 1, 2: 1}


def test_slices_count_as_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    (made,), found = divide(monkeypatch, (seven_slices(),), {"gpus": 1, "nWorkers": "auto"})
    assert made.workers == 7
    assert ids(found) == [[f"MIG-{n}" for n in range(7)]]


def test_a_batch_job_divides_only_its_own_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = divide(monkeypatch, two_cards(), {"gpus": "auto"}, CUDA_VISIBLE_DEVICES="1")
    assert ids(found) == [["GPU-bbbb"]]


def test_a_given_number_of_workers_shares_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    (made,), _ = divide(monkeypatch, two_cards(), {"gpus": "auto", "nWorkers": "auto"}, workers=8)
    assert (made.workers, made.has.gpus) == (8, 0.25)


@pytest.mark.parametrize(
    ("cards", "group", "text"),
    [
        (None, {"gpus": "auto"}, r"pip install nblb\[gpu\]"),
        ((), {"gpus": "auto"}, "belong to other groups"),
        (two_cards(), {"gpus": 1, "nWorkers": 3}, "is 3 cards, and this hub sees 2"),
        (two_cards(), {"gpus": [2]}, "this hub sees 0: GPU-aaaa, 1: GPU-bbbb"),
    ],
)
def test_what_cannot_be_divided_is_said(
    monkeypatch: pytest.MonkeyPatch, cards: tuple[FakeCard, ...] | None, group: dict[str, Any], text: str
) -> None:
    with pytest.raises(ParametersError, match=text):
        divide(monkeypatch, cards, group)


def test_without_the_package_numbers_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = divide(monkeypatch, None, {"gpus": 1, "nWorkers": 2})
    assert ids(found) == [["0", "1"]]
    assert ids(divide(monkeypatch, None, {"gpus": ["GPU-x"]})[1]) == [["GPU-x"]]


def test_without_gpus_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, found = divide(monkeypatch, two_cards(), {})
    assert found.pins.environment("w", 0) == {}
    found.look(slots := FakeSlots(), {}, 0.0, _never, _never)
    assert slots.cards == ()
    assert groups[0].has.gpus == 0


def test_a_new_worker_takes_the_place_that_the_fewest_use() -> None:
    pins = Pins([[(ONE,), (OTHER,)], []])
    assert pins.environment("a", 0)["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"
    assert pins.environment("b", 0)["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"
    pins.release("a")
    assert pins.environment("c", 0)["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"
    assert pins.environment("plain", 1)["CUDA_VISIBLE_DEVICES"] == ""
    assert pins.cards_of("c") == (ONE,)
    assert pins.cards_of("plain") == pins.cards_of("unknown") == ()


class FakeSlots:
    """The part of the slots that the cards of a hub need."""

    def __init__(self) -> None:
        self.cards: tuple[CardUse, ...] = ()
        self.lost: list[tuple[int, int]] = []
        self.rested: list[tuple[int, int, list[str]]] = []

    def lose_workers(self, group: int, left: int) -> None:
        self.lost.append((group, left))

    def rest_workers(self, group: int, most: int, workers: Collection[str], now: float) -> list[Command]:
        self.rested.append((group, most, list(workers)))
        return [RetireWorker(worker) for worker in workers]


def test_use_by_tasks_and_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_cards()
    first.used_mb, first.processes = 18_700, {os.getpid(): 700, 1: 18_000}
    _, found = divide(monkeypatch, (first, second), {"gpus": 1, "nWorkers": 2})
    found.pins.environment("w", 0)
    slots = FakeSlots()
    found.look(slots, {"w": os.getpid()}, 0.0, _never, _never)
    card, free = slots.cards
    assert (card.id, card.used_mb, card.outside_mb, card.outside) == ("GPU-aaaa", 18_700, 18_000, ("root",))
    assert (card.workers, free.workers, free.outside) == (("w",), (), ())
    assert slots.rested == []  # the group is not polite


def test_a_polite_group_leaves_a_card_alone_while_others_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_cards()
    _, found = divide(monkeypatch, (first, second), {"gpus": 1, "nWorkers": 2, "polite": True})
    for worker in "ab":
        found.pins.environment(worker, 0)
    slots, logged = FakeSlots(), []

    def look(now: float) -> list[Command]:
        return found.look(slots, {}, now, _never, lambda *text: logged.append(text))

    look(0.0)
    second.processes = {1: 0}  # how much it uses is unknown
    assert look(1.0) == [RetireWorker("b")]
    assert look(2.0) == []
    assert slots.rested == [(0, 1, ["b"])]
    found.pins.release("b")
    assert found.pins.environment("c", 0)["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"  # not where others are
    second.processes = {}
    look(3.0)
    assert len(slots.rested) == 1  # they may be back in a moment
    look(2.0 + gpus.QUIET_S)
    assert slots.rested[1:] == [(0, 2, [])]
    assert [level for level, _ in logged] == ["info"]


def test_a_card_that_falls_off_the_bus_is_named_and_its_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two_cards()
    _, found = divide(monkeypatch, (first, second), {"gpus": 1, "nWorkers": 2}, {})
    for worker, group in (("a", 0), ("b", 0), ("plain", 1)):
        found.pins.environment(worker, group)
    second.lost = True
    slots, killed, logged = FakeSlots(), [], []
    for _ in range(2):  # and it is said once
        found.look(slots, {}, 0.0, lambda *worker: killed.append(worker), lambda *text: logged.append(text))
    assert [row.lost for row in slots.cards] == ["", "GPU is lost"]
    assert slots.lost == [(0, 1)]
    assert [worker for worker, _ in killed] == ["b"]
    assert [level for level, _ in logged] == ["error"]
    assert "GPU-bbbb (NVIDIA T4) does not answer" in logged[0][1]
    found.pins.release("b")
    assert found.pins.environment("c", 0)["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa"


def test_worker_processes_see_their_cards_before_anything_is_imported() -> None:
    with contextlib.closing(PoolRig(0)) as rig:
        rig.pool._pins = Pins([[(ONE,)]])
        rig.pool.start_worker("worker_0", 0, 0.0, time.monotonic())
        rig.wait(WorkerStarted)
        assert rig.result(_environment) == ("GPU-aaaa", "PCI_BUS_ID", "")
        assert rig.pool._pins.cards_of("worker_0") == (ONE,)
        rig.pool.kill("worker_0", "test")
        rig.wait(WorkerDied)
        assert rig.pool._pins.cards_of("worker_0") == ()


def _environment() -> tuple[str | None, ...]:
    names = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES"
    return tuple(os.environ.get(name) for name in names)


def _never(*_: object) -> None:
    raise AssertionError
