"""Which GPUs each worker of a hub sees, and what uses them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import psutil

from nblb.errors import ParametersError
from nblb.parameters import Parameters, WorkerGroup
from nblb.protocol.commands import Command
from nblb.protocol.messages import CardUse, Group
from nblb.system import gpu_cards
from nblb.system.gpu_cards import CardProcess, CardReading, GpuCard, Nvml

Places = tuple[GpuCard, ...]
EPSILON = 1e-9
QUIET_S = 10.0  # for so long nobody else must have used a card before a polite group uses it again


class Pins:
    """Gives each worker process the cards of the place in its group that the fewest workers use."""

    def __init__(self, places: Sequence[Sequence[Places]]) -> None:
        self.places = [list(each) for each in places]  # by group: the cards of each worker
        self._of: dict[str, tuple[int, Places]] = {}  # worker -> group, cards
        self.hides = any(self.places)  # some group has cards, so the workers of others see none
        self.resting: frozenset[GpuCard] = frozenset()  # cards on which polite groups start no worker

    def environment(self, worker: str, group: int) -> dict[str, str]:
        """Return the variables for a new worker process."""
        if not self.hides:
            return {}
        used = Counter(place for other, place in self._of.values() if other == group)
        room = Counter(self.places[group])
        ranks = {place: (bool(self.resting.intersection(place)), used[place] / room[place]) for place in room}
        place = min(ranks, key=ranks.__getitem__, default=())
        self._of[worker] = group, place
        return gpu_cards.variables(place)

    def release(self, worker: str) -> None:
        """Note that a worker process has ended."""
        self._of.pop(worker, None)

    def cards_of(self, worker: str) -> Places:
        """Return the cards that a worker sees."""
        return self._of.get(worker, (0, ()))[1]

    def workers_on(self, cards: Collection[GpuCard], group: int) -> list[str]:
        """Return the workers of a group that see one of these cards."""
        return [worker for worker, (its, place) in self._of.items() if its == group and any(c in cards for c in place)]

    def lose(self, card: GpuCard) -> tuple[dict[int, int], list[str]]:
        """Take a card away; return the places that are left in the groups that had it, and the workers that see it."""
        left = {}
        for group, places in enumerate(self.places):
            if any(card in place for place in places):
                self.places[group] = [place for place in places if card not in place]
                left[group] = len(self.places[group])
        return left, [worker for worker, (_, place) in self._of.items() if card in place]


class SlotsOfHub(Protocol):
    """The part of the slots that follows what happens to cards."""

    cards: tuple[CardUse, ...]

    def lose_workers(self, group: int, left: int) -> None: ...

    def rest_workers(self, group: int, most: int, workers: Collection[str], now: float) -> list[Command]: ...


class HubGpus:
    """The cards of a hub: divides them among its workers, and measures them."""

    def __init__(
        self, places: Sequence[Sequence[Places]] = (), nvml: Nvml | str = "", polite: Collection[int] = ()
    ) -> None:
        self.pins = Pins(places)
        self._nvml = nvml
        self._polite = tuple(polite)  # groups that leave cards alone which others use
        every = (card for group in places for place in group for card in place)
        self._cards = list(dict.fromkeys(every))
        self._lost: dict[GpuCard, str] = {}
        self._used_until: dict[GpuCard, float] = {}  # by processes of no task

    @property
    def most_workers(self) -> dict[int, int]:
        """The number of workers for which the groups with cards have some."""
        return {number: len(places) for number, places in enumerate(self.pins.places) if places}

    def look(
        self,
        slots: SlotsOfHub,
        pids: Mapping[str, int],
        now: float,
        kill: Callable[[str, str], None],
        log: Callable[[str, str], None],
    ) -> list[Command]:
        """Measure the cards; end the workers of one that is lost, and rest those of one in use outside the queue.

        Returns the commands of the slots.
        """
        if not self._cards:
            return []
        workers, rows = _processes(pids), []
        for card in self._cards:
            reading = self._read(card)
            if reading.lost and card not in self._lost:
                self._lost[card] = reading.lost
                self._give_up(card, slots, kill, log)
            row = self._row(card, reading, workers)
            if row.outside:
                self._used_until[card] = now + QUIET_S
            rows.append(row)
        slots.cards = tuple(rows)
        return self._rest(slots, now, log)

    def _read(self, card: GpuCard) -> CardReading:
        if card in self._lost:
            return CardReading(lost=self._lost[card])
        return CardReading() if isinstance(self._nvml, str) else self._nvml.read(card)

    def _give_up(
        self, card: GpuCard, slots: SlotsOfHub, kill: Callable[[str, str], None], log: Callable[[str, str], None]
    ) -> None:
        left, workers = self.pins.lose(card)
        text = f"GPU {card.id} ({card.name}) does not answer any more: {self._lost[card]}"
        log("error", f"{text}; {len(workers)} workers end, and the others go on")
        for group, number in left.items():
            slots.lose_workers(group, number)
        for worker in workers:
            kill(worker, text)

    def _rest(self, slots: SlotsOfHub, now: float, log: Callable[[str, str], None]) -> list[Command]:
        """Let no worker of a polite group begin a task on a card that others use, or have used just before."""
        used = frozenset(card for card, until in self._used_until.items() if now < until)
        commands: list[Command] = []
        if not self._polite or used == self.pins.resting:
            return commands
        for card in used - self.pins.resting:
            log("info", f"GPU {card.id} ({card.name}) is used outside the queue: polite groups leave it alone")
        self.pins.resting = used
        for group in self._polite:
            free = [place for place in self.pins.places[group] if not used.intersection(place)]
            commands += slots.rest_workers(group, len(free), self.pins.workers_on(used, group), now)
        return commands

    def _row(self, card: GpuCard, reading: CardReading, workers: Mapping[int, str]) -> CardUse:
        outside = [one for one in reading.processes if one.pid not in workers]
        accounts = {one: name for one in outside if (name := _account(one))}
        seen = (worker for worker in dict.fromkeys(workers.values()) if card in self.pins.cards_of(worker))
        return CardUse(
            id=card.id,
            name=card.name,
            percent=reading.percent,
            memory_mb=card.memory_mb,
            used_mb=reading.used_mb,
            outside_mb=sum(one.used_mb for one in accounts),
            outside=tuple(sorted(set(accounts.values()))),
            lost=reading.lost,
            workers=tuple(seen),
        )


def divided(
    parameters: Parameters, groups: Sequence[Group], fixed: bool = False, environment: Mapping[str, str] = os.environ
) -> tuple[tuple[Group, ...], HubGpus]:
    """Return the groups with the GPUs of each worker, and which cards these are.

    `fixed`: the numbers of workers were given, so that "auto" does not stand for as many as there are cards.

    Raises
    ------
    ParametersError
        The cards cannot be found, or are too few.
    """
    wanted = parameters.worker_groups()
    if not any(group.gpus for group in wanted):
        return tuple(groups), HubGpus()
    nvml = gpu_cards.open_nvml()
    cards = gpu_cards.visible_cards(nvml, environment)
    free = list(cards)
    places: list[list[Places]] = []
    found = []
    for number, (group, settings) in enumerate(zip(groups, wanted, strict=True)):
        where = f"WKHUB_WORKERS[{number}] of {parameters.source}"
        if fixed and settings.nWorkers == "auto":
            settings = msgspec.structs.replace(settings, nWorkers=group.workers)
        mine = _cards_for(settings, group, cards, free, nvml, where)
        group, of_workers = _shared(group, settings, mine)
        used = {card for place in of_workers for card in place}
        free = [card for card in free if card not in used]
        found.append(group)
        places.append(of_workers)
    polite = [number for number, settings in enumerate(wanted) if settings.polite and places[number]]
    return tuple(found), HubGpus(places, nvml, polite)


def _cards_for(
    settings: WorkerGroup, group: Group, cards: Sequence[GpuCard], free: Sequence[GpuCard], nvml: Nvml | str, where: str
) -> list[GpuCard]:
    """Return the cards for the workers of a group."""
    gpus = settings.gpus
    if gpus == "auto":
        if not free:
            why = nvml if isinstance(nvml, str) else "all GPUs that this hub sees belong to other groups"
            raise ParametersError(f'"gpus" is "auto" in {where}, and {why}, or name the cards: "gpus": [0, 1].')
        return list(free)
    if isinstance(gpus, tuple):
        named = gpu_cards.named_cards(gpus, cards)
        if len(named) < len(gpus):
            here = ", ".join(f"{n}: {card.id}" for n, card in enumerate(cards))
            raise ParametersError(f'"gpus" is {list(gpus)} in {where}, and this hub sees {here or "none"}.')
        return named
    total = float(gpus) * _workers(settings, group, len(free), float(gpus))
    count = int(total + 1 - EPSILON)
    if not cards and isinstance(nvml, str):  # nothing is known: the numbers that the cards have by themselves
        return [GpuCard(str(index)) for index in range(count)]
    if count > len(free):
        raise ParametersError(
            f'"gpus" is {gpus:g} in {where}, which for {group.workers} workers is {count} cards, and this hub sees '
            f"{len(free)}{' more' * (len(free) < len(cards))}."
        )
    return list(free[:count])


def _workers(settings: WorkerGroup, group: Group, cards: int, gpus: float) -> int:
    """Return the number of workers: with "auto" as many as the cards allow."""
    if settings.nWorkers != "auto" or not gpus or not cards:
        return group.workers
    return int(cards / gpus + EPSILON)


def _shared(group: Group, settings: WorkerGroup, cards: Sequence[GpuCard]) -> tuple[Group, list[Places]]:
    """Return the group with the GPUs of each worker, and the cards of each worker."""
    gpus = settings.gpus
    if not cards:
        return group, []
    if isinstance(gpus, (int, float)):
        each, number = float(gpus), _workers(settings, group, len(cards), float(gpus))
    else:
        number = len(cards) if settings.nWorkers == "auto" else group.workers
        each = len(cards) // number if 0 < number <= len(cards) else len(cards) / max(1, number)
    has = msgspec.structs.replace(group.has, gpus=each)
    whole = int(each)
    places = [
        tuple(cards[n * whole : (n + 1) * whole]) if whole else (cards[min(int(n * each + EPSILON), len(cards) - 1)],)
        for n in range(number)
    ]
    return msgspec.structs.replace(group, workers=number, has=has), places


def _processes(pids: Mapping[str, int]) -> dict[int, str]:
    """Return the worker of each process that a worker is or has started."""
    found = {pid: worker for worker, pid in pids.items()}
    for worker, pid in pids.items():
        try:
            found.update({child.pid: worker for child in psutil.Process(pid).children(recursive=True)})
        except (psutil.Error, OSError):
            continue
    return found


def _account(process: CardProcess) -> str:
    """Return the account of a process; "" for one that this container does not show."""
    try:
        name: Any = psutil.Process(process.pid).username()
        return str(name)
    except (psutil.Error, OSError, KeyError):
        return ""
