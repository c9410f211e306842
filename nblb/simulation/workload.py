"""The users' actions in a history and the behaviour of their functions, drawn from the seed before it begins.

A call's argument is one byte, its own number, so that a worker can check that it got the right slice. A result is a
text with the submission, the slice and the attempt, so that a wrong one is recognised.
"""

from __future__ import annotations

from random import Random

import msgspec

from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    CancelTask,
    ForgetJob,
    Message,
    OpenJob,
    PutBlob,
    RetryFailed,
    StopAndKeep,
    SubmitTask,
    TaskState,
    TurnKnob,
)

FUNCTIONS = ("quick", "slow")
CONSTANT = "c0"
OTHER_ERROR = "builtins.KeyError"  # a class that no call raises: they raise ValueError
#: Function -> length of its calls where lengths are mixed: from a millisecond to hours in one history.
LENGTHS = {"ms": 0.001, "2ms": 0.002, "8ms": 0.008, "fifth": 0.2, "seconds": 2.0, "minute": 60.0, "hour": 3600.0}
SHORT, LONG = ("ms", "2ms", "8ms"), ("8ms", "fifth", "fifth", "seconds")
NAMED = {"named": ("by-name", "arguments")}  # functions that some hubs run by name: hashes of function and arguments


class Conduct(msgspec.Struct, frozen=True):
    """The behaviour of the calls of a submission."""

    seconds: float = 0.1  # per item
    raises: frozenset[int] = frozenset()  # items that always raise
    flaky: frozenset[int] = frozenset()  # items that raise the first time
    poison: frozenset[int] = frozenset()  # items that kill their worker each time
    fragile: frozenset[int] = frozenset()  # items that kill it the first time
    endless: bool = False  # runs until it is stopped
    stubborn: bool = False  # ignores an interrupt
    nests: int = 0  # number of tasks that each call submits and waits for; they submit one less

    @property
    def plain(self) -> bool:
        """True if its calls return and harm no worker."""
        return not (self.raises or self.flaky or self.poison or self.fragile or self.endless)


class Act(msgspec.Struct, frozen=True):
    """An action: at time `at`, the user of client `client` sends this message."""

    at: float
    client: int
    message: Message


class Plan(msgspec.Struct):
    """All actions of a history."""

    users: list[str]  # user of each client
    acts: list[Act]
    conduct: dict[str, Conduct]


def nest(plan: Plan, random: Random) -> None:
    """Makes some of the calls that return submit nested tasks and wait for them."""
    for task, conduct in plan.conduct.items():
        if conduct == Conduct(conduct.seconds) and random.random() < 0.5:
            nests = random.choice((1, 1, 2))
            plan.conduct[task] = Conduct(min(conduct.seconds, 0.8), nests=nests)


def blob(name: str) -> PutBlob:
    return PutBlob(hash=name, payload=Payload((name.encode(),)), name=name)


def result_text(task: str, first: int, items: int, attempt: int, told: int = 0, left: int = 0) -> bytes:
    """The result of the attempt at this slice.

    It is without the first `told` items, which were reported before, and the last `left` ones, which were not begun.
    """
    return f"{task}/{first}+{items}#{attempt}{f'-{told}' if told else ''}{f'<{left}' if left else ''}".encode()


class Draw:
    """Draws a plan; each call of `record` adds a submission."""

    def __init__(self, random: Random, clients: int, users: int, records: int, until: float) -> None:
        self.random = random
        self.random_waits = Random()  # apart, so that these draws change no others
        self.random_waits.setstate(random.getstate())
        self.until = until
        self.plan = Plan([f"user{n % users}" for n in range(clients)], [], {})
        self._tasks: list[list[str]] = [[] for _ in range(clients)]  # task ids of each client, oldest first
        self._items: dict[str, int] = {}
        self._request = 0
        for at in sorted(random.random() * until for _ in range(records)):  # dependencies are submitted first
            self._record(random.randrange(clients), at)
        if records and random.random() < 0.4:
            self._job(random.randrange(clients), random.random() * until)
        self.plan.acts.sort(key=lambda act: act.at)

    def _act(self, at: float, client: int, message: Message) -> None:
        self.plan.acts.append(Act(at, client, message))

    def _conduct(self, items: int) -> tuple[Conduct, int]:
        """Draws the conduct of a submission and its number of retries."""
        random = self.random
        some = frozenset(n for n in range(items) if random.random() < 0.4) or frozenset((random.randrange(items),))
        seconds = random.choice((0.001, 0.004, 0.05, 0.2, 0.8, 2.5))
        if items == 1 and random.random() < 0.2:
            seconds = 8.0  # longer than a lease
        kind = random.random()
        if kind < 0.55:
            return Conduct(seconds, stubborn=seconds > 5.0 and random.random() < 0.5), 0
        if kind < 0.65:
            return Conduct(seconds, raises=some), random.choice((0, 0, 1, 2))
        if kind < 0.75:
            return Conduct(seconds, flaky=some), random.choice((0, 1, 2))
        if kind < 0.85:
            return Conduct(seconds, poison=some), 0
        if kind < 0.93:
            return Conduct(seconds, fragile=some), 0
        return Conduct(seconds, endless=True, stubborn=random.random() < 0.5), random.choice((0, 0, 1))

    def _needed(self, task: str) -> str:
        """Draws a dependency: all results of a task, or the result of one item."""
        items = self._items[task]
        return f"{task}.{self.random.randrange(items)}" if items > 1 and self.random.random() < 0.6 else task

    def _record(self, client: int, at: float, job: str = "", index: int = 0, items: int = 0) -> SubmitTask:
        random = self.random
        task = f"t{len(self.plan.conduct)}"
        items = items or random.choice((1, 1, 1, 2, 3, 6))
        conduct, retries = self._conduct(items)
        self.plan.conduct[task] = conduct
        mine = self._tasks[client]
        depends = (self._needed(random.choice(mine)),) if mine and not job and random.random() < 0.3 else ()
        split = items > 1 and random.random() < 0.8
        by_name = random.random() < 0.1
        spec = SubmitTask(
            task=task,
            name=next(iter(NAMED)) if by_name else f"f{random.randrange(2)}",
            function="" if by_name else random.choice(FUNCTIONS),
            payload=Payload((bytes(range(items)),), [1] * items) if split else Payload((bytes(range(items)),)),
            items=items,
            split=split,
            job=job,
            index=index,
            priority=float(random.choice((0, 0, 5, 10, 20))),
            retries=retries,
            deadline_s=self.random_waits.choice((0.0,) * 10 + (1.0, 4.0)),
            retry_wait_s=self.random_waits.choice((0.0, 0.2, 1.0, 3.0)) if retries else 0.0,
            retry_on=self.random_waits.choice(((), (), ("builtins.ValueError",), (OTHER_ERROR,))) if retries else (),
            timeout_s=random.choice((0.3, 1.5)) if conduct.endless else 0.0,
            at_most_once=random.random() < 0.15 and retries == 0,
            depends=depends,
            constants=(CONSTANT,) if random.random() < 0.2 else (),
            cache=f"k{random.randrange(3)}"
            if not by_name and items == 1 and not depends and random.random() < 0.2
            else "",
        )
        mine.append(task)
        self._items[task] = items
        if not conduct.plain and random.random() < 0.15:
            self._request += 1
            some = (random.randrange(items),) if random.random() < 0.5 else ()
            self._act(
                at + 1.0 + random.random() * 4.0, client, RetryFailed(request=self._request, task=task, items=some)
            )
        self._act(at, client, spec)
        if random.random() < (0.5 if conduct.endless else 0.1):
            self._steer(client, at + random.random() * 3.0, task, items)
        if random.random() < 0.25:
            self._cancel(client, at + random.random() ** 2 * 4.0, task, items)
        return spec

    def _steer(self, client: int, at: float, task: str, items: int) -> None:
        """Draws an action that turns a knob, or stops items early with their emitted values."""
        item = self.random.choice((-1, self.random.randrange(items)))
        kind = self.random.choice((TurnKnob, StopAndKeep))
        self._request += 1
        message = TurnKnob(name="k", value=2, task=task, item=item, request=self._request)
        if kind is StopAndKeep:
            message = StopAndKeep(task=task, item=item, request=self._request)  # type: ignore[assignment]
        self._act(at, client, message)

    def _cancel(self, client: int, at: float, task: str, items: int) -> None:
        random = self.random
        self._request += 1
        first = random.randrange(items)
        part = random.random() < 0.4
        number = random.randrange(1, items - first + 1) if part else 0
        self._act(
            at,
            client,
            CancelTask(
                request=self._request, task=task, first=first if part else 0, items=number, kill=random.random() < 0.2
            ),
        )

    def crowd(self) -> None:
        """Gives each client much work at once, in calls of similar length, so that shares can be compared."""
        random = self.random
        for client in range(len(self.plan.users)):
            at = 0.5 + random.random()
            for _ in range(2):
                task, items = f"t{len(self.plan.conduct)}", random.choice((8, 12, 16))
                self.plan.conduct[task] = Conduct(random.choice((0.1, 0.2, 0.3)))
                payload = Payload((bytes(range(items)),), [1] * items)
                self._act(at, client, SubmitTask(task=task, name=task, function="slow", payload=payload, items=items,
                                                 split=True))  # fmt: skip
        self.plan.acts.sort(key=lambda act: act.at)

    def flood(self) -> None:
        """Makes each client submit more single calls in a loop than may compete at once; they may be sent together."""
        random = self.random
        for client in range(len(self.plan.users)):
            at, left = 0.5 + random.random() * 6.0, random.choice((15, 30, 45))
            while left > 0:
                items = min(left, random.choice((1, 1, 1, 1, 4, 8)))
                self._one_of_a_loop(client, at, items)
                left -= items
                at += random.choice((0.0, 0.0, 0.0, 0.001, 0.05))
        self.plan.acts.sort(key=lambda act: act.at)

    def _one_of_a_loop(self, client: int, at: float, items: int) -> None:
        random = self.random
        task, split, mine = f"t{len(self.plan.conduct)}", items > 1, self._tasks[client]
        conduct = Conduct(random.choice((0.01, 0.05, 0.2)))
        if random.random() < 0.1:
            conduct = msgspec.structs.replace(conduct, raises=frozenset((random.randrange(items),)))
        self.plan.conduct[task] = conduct
        depends = (self._needed(random.choice(mine)),) if mine and not split and random.random() < 0.1 else ()
        spec = SubmitTask(
            task=task,
            name="loop",
            function=random.choice(FUNCTIONS),
            payload=Payload((bytes(range(items)),), [1] * items) if split else Payload((bytes(range(items)),)),
            items=items,
            split=split,
            priority=float(random.choice((0, 0, 0, 0, 5, 20))),
            retries=random.choice((0, 0, 1)),
            depends=depends,
        )
        mine.append(task)
        self._items[task] = items
        self._act(at, client, spec)
        if random.random() < 0.1:
            self._cancel(client, at + random.random() * 3.0, task, items)

    def mix_lengths(self) -> None:
        """Gives each client a flood of short calls, some long ones, or both, with known and unknown lengths."""
        random = self.random
        for client in range(len(self.plan.users)):
            at = 0.3 + random.random() * 3.0
            kind = random.random()
            if kind < 0.6 or client == 0:
                self._flood(client, at)
            if kind > 0.4 or client == 1:
                for _ in range(random.choice((1, 2, 4, 6))):
                    self._length(client, at, random.choice(LONG), random.choice((1, 1, 1, 3)))
                    at += random.choice((0.0, 0.0, 0.3))
        if random.random() < 0.5:  # measured as short, and then long: slices of many calls that take long
            client, at, short = random.randrange(len(self.plan.users)), random.random() * 2.0, random.choice(SHORT)
            self._length(client, at, short, random.choice((1, 6)), function=short)
            for _ in range(random.choice((1, 1, 2))):
                at += random.choice((0.3, 1.0))
                self._length(client, at, random.choice(LONG), random.choice((6, 12)), function=short)
        if random.random() < 0.3:
            client, at = random.randrange(len(self.plan.users)), random.random() * 3.0
            task = self._length(client, at, random.choice(("minute", "hour")), 1)
            if random.random() < 0.97:  # else the job runs to its end
                self._request += 1
                self._act(at + 2.0 + random.random() * 10.0, client, CancelTask(request=self._request, task=task))
        self.plan.acts.sort(key=lambda act: act.at)

    def _flood(self, client: int, at: float) -> None:
        """Adds more short calls than all workers can take: items of a submission, of a job, or single tasks."""
        random, length = self.random, self.random.choice(SHORT)
        kind, number = random.choice(("record", "job", "singles")), random.choice((12, 24, 60))
        if kind == "record":
            self._length(client, at, length, number)
            return
        job = f"flood{client}" if kind == "job" else ""
        priority = float(random.choice((0, 0, 10)))
        if job:
            self._act(at, client, OpenJob(job=job, name=job, items=number))
        for index in range(number):
            self._length(client, at, length, 1, priority, job, index if job else 0)

    def _length(
        self,
        client: int,
        at: float,
        length: str,
        items: int,
        priority: float = -1.0,
        job: str = "",
        index: int = 0,
        function: str = "",
    ) -> str:
        random, task = self.random, f"t{len(self.plan.conduct)}"
        self.plan.conduct[task] = Conduct(LENGTHS[length])
        if not function:  # it may be another one, whose measured length differs
            function = length if job or random.random() < 0.9 else random.choice(tuple(LENGTHS))
        if priority < 0.0:
            priority = float(random.choice((0, 0, 0, 5, 10)))
        payload = Payload((bytes(n % 256 for n in range(items)),), [1] * items)
        spec = SubmitTask(task=task, name=length, function=function, payload=payload, items=items, split=items > 1,
                          priority=priority, job=job, index=index)  # fmt: skip
        self._act(at, client, spec)
        return task

    def _job(self, client: int, at: float) -> None:
        random = self.random
        records = [random.choice((1, 4, 8)) for _ in range(random.choice((1, 2, 3)))]
        job = f"j{client}"
        most = self.random_waits.choice((0, 1, 2))
        self._act(at, client, OpenJob(job=job, name="sweep", items=sum(records), user="", max_failures=most))
        index = 0
        for items in records:
            self._record(client, at, job, index, items)
            index += items
        if random.random() < 0.2:
            self._request += 1
            self._act(at + random.random() * 4.0, client, CancelTask(request=self._request, job=job))
        if random.random() < 0.1:
            self._request += 1
            self._act(at + random.random() * 6.0, client, ForgetJob(job=job, request=self._request))


def may_end(spec: SubmitTask, conduct: Conduct, item: int, alone: bool = False) -> set[TaskState]:
    """The possible end states of an item that is not cancelled and whose dependencies do not fail.

    `alone`: its submission cannot be cut, but the other items may have ended already.
    """
    if item in conduct.poison or (conduct.poison and not spec.split and not alone):
        return {TaskState.LOST}
    if conduct.endless or item in conduct.raises:
        return {TaskState.FAILED}
    if item in conduct.flaky and (not spec.retries or OTHER_ERROR in spec.retry_on or not spec.split):
        return {TaskState.FAILED, TaskState.DONE}  # DONE also where the first result was lost with its hub
    return {TaskState.DONE}
