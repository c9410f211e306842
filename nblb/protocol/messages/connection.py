"""The messages that open and keep a connection: the greetings of both kinds of parties, and signs of life."""

from __future__ import annotations

import msgspec

from nblb.protocol.messages.vocabulary import Message


class Hello(Message):
    """A client's first message on a connection, which identifies it. Answer: Welcome or Refused."""

    client: str  # random id of this process
    user: str  # a claim, believed only if the transport allows it
    host: str = ""
    pid: int = 0
    python: tuple[int, int] = (3, 0)
    cloudpickle: str = ""
    notebook: str = ""  # path of the notebook, "" outside one
    since: float = 0.0  # wall clock of this process's first connection, for lb.inbox()
    here_s: float = -1.0  # time since then, by its own monotonic clock; -1: unknown
    role: str = ""  # this connection may do no more than a key of this role and user; "": no such limit


class Welcome(Message):
    """The core's answer to Hello and HubHello."""

    core: str  # uuid of the cluster, the same after restarts
    epoch: int  # raised by one at each start of the core
    name: str
    user: str = ""  # the client's user, as the core sees it
    durability: str = "process"
    pid: int = 0
    heartbeat_s: float = 1.0
    echo: float = 0.0  # to a hub: the time, by its own clock, from which its lease counts
    output: str = ""  # the folder of this machine with the whole output of tasks (output_log.py)
    files: str = ""  # the state folder, in which large buffers are handed over as files; "" for none
    token: str = ""  # text of a file in it: a party that finds it sees the same folder
    process: str = ""  # name of the core's process, with a mark of its computer: who has another cannot look it up
    lease_s: float = 0.0  # to a hub: the length of its lease, and the silence …
    suspect_s: float = 0.0  # … after which it says hello again, whatever its own parameters are
    bulk: int = 0  # port of the bulk door, for large buffers of parties on other computers; 0: there is none


class FilesSeen(Message):
    """This party sees the folder in Welcome, so from here on the core may name files instead of sending bytes."""

    token: str


class Refused(Message):
    """The core refuses this party; `reason` is a sentence for a person."""

    reason: str
    kind: str = "NotAllowed"  # name of a class in errors.py

    @property
    def is_for_now(self) -> bool:
        """True if the party may try again: the core has no room for another connection."""
        return self.kind == "LoadBalancerUnreachable"


class WorkerUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the process of a worker, with its children, uses of its machine."""

    worker: str
    cpu: float = 0.0  # percent of one core since the last heartbeat
    memory_mb: int = 0


class CardUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in use on a GPU of a hub, or on a slice of one."""

    id: str
    name: str = ""
    percent: float = -1.0  # of the time in which something ran on it; -1: unknown
    memory_mb: int = 0
    used_mb: int = 0
    outside_mb: int = 0  # used by processes that are no task's …
    outside: tuple[str, ...] = ()  # … and their accounts
    lost: str = ""  # why it cannot be used any more
    workers: tuple[str, ...] = ()  # those that see it


class Heartbeat(Message):
    """A sign of life of either side, sent when nothing else was sent for heartbeat_s."""

    load: float = 0.0  # hub: CPU use of its machine, 0..1
    memory: float = 0.0  # hub: memory in use of its machine, 0..1
    disk: float = 0.0  # hub: use of the disk of its temporary files, 0..1
    workers: tuple[WorkerUse, ...] = ()  # hub: its workers
    at: float = 0.0  # the sender's clock
    echo: float = 0.0  # core to hub: `at` of the hub's heartbeat that this answers
    cards: tuple[CardUse, ...] = ()  # hub: its GPUs
    way_s: float = 0.0  # hub: the shortest round trip of its latest heartbeats; 0: not measured yet
    wanted: tuple[int, ...] = ()  # hub: the number of workers that each of its groups should have
