"""The faults of a history and their repair, drawn from the seed before the history begins.

A fault happens to a process, a connection or a disk. At the end of the stormy part `heal` repairs everything: cuts
end, crashed processes restart, disks have room, and each connection is made anew once.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import msgspec

from nblb.protocol.messages import DrainHub, ScaleHub, SetPriority, StopCore
from nblb.simulation.workload import NAMED

if TYPE_CHECKING:
    from nblb.simulation.simulated_hub import SimulatedHub
    from nblb.simulation.story import History


ADMINISTERED = 0.15  # part of the histories with a drained hub and changed priorities
WORKS_AGAIN_S = 10.0  # after the storm, hubs are told so long that they are not drained


class Mix(msgspec.Struct, frozen=True):
    """The maximum number of faults of each kind in a history."""

    core_crash: int = 2
    hub_crash: int = 1
    worker_kill: int = 1
    client_crash: int = 1
    cut: int = 2
    break_line: int = 2
    pause: int = 2
    full_disk: int = 1
    bad_fsync: int = 1
    wall_jump: int = 1
    scale: int = 1
    stop_hub: int = 0
    stop_core: int = 0
    withdraw: int = 0
    power_cut: int = 0
    mute_hub: int = 0


def plan(history: History, mix: Mix, until: float) -> None:
    """Schedules the faults."""
    random, simulator = history.simulator.random, history.simulator
    kinds: dict[str, Callable[[History], None]] = {
        "core_crash": core_crash,
        "hub_crash": hub_crash,
        "worker_kill": worker_kill,
        "client_crash": client_crash,
        "cut": cut,
        "break_line": break_line,
        "pause": pause,
        "full_disk": full_disk,
        "bad_fsync": bad_fsync,
        "wall_jump": wall_jump,
        "scale": scale,
        "stop_hub": stop_hub,
        "stop_core": stop_core,
        "withdraw": withdraw,
        "power_cut": power_cut,
        "mute_hub": mute_hub,
    }
    for name, fault in kinds.items():
        most = getattr(mix, name)
        for _ in range(random.randrange(most + 1) if most else 0):
            simulator.at(random.random() * until, fault, history)
    own = Random(f"administration {simulator.seed}")  # a separate generator: other histories stay the same
    if own.random() < ADMINISTERED:
        simulator.at(own.random() * until, drain, history, own, until)
        for _ in range(own.randrange(4)):
            simulator.at(own.random() * until, reprioritize, history, own)


def _address(history: History, random: Random) -> str | None:
    return random.choice(list(history.network.links)) if history.network.links else None


def core_crash(history: History) -> None:
    simulator, core = history.simulator, history.core
    history.referee.interruptions += 1
    if simulator.chance(0.4):
        core.crash_in_mid_word = True
    else:
        core.crash()


def hub_crash(history: History) -> None:
    """Kills a hub; another incarnation takes its place some time later."""
    random = history.simulator.random
    history.referee.interruptions += 1
    place = random.randrange(len(history.hubs))
    if history.hubs[place].alive:
        history.simulator.note(history.hubs[place].name, "is killed")
        history.hubs[place].crash()
        history.simulator.after(0.2 + random.random() * 5.0, history.new_hub, place)


def worker_kill(history: History) -> None:
    """Kills a worker, as the out-of-memory killer or a user would."""
    random = history.simulator.random
    hub = random.choice(history.hubs)
    if hub.alive and hub.pool.workers:
        worker = random.choice(list(hub.pool.workers.values()))
        history.simulator.note(worker.name, "is killed")
        history.referee.worker_kills += 1
        worker.die("killed by signal 9 (SIGKILL)")


def client_crash(history: History) -> None:
    random = history.simulator.random
    place = random.randrange(len(history.clients))
    client = history.clients[place]
    if client.alive:
        history.simulator.note(client.name, "is killed")
        client.crash()
        history.simulator.after(0.1 + random.random() * 4.0, history.new_client, place)


def cut(history: History) -> None:
    """Cuts off one party, one way or both, for less or more than a lease."""
    random, network = history.simulator.random, history.network
    address = _address(history, random)
    if address is None:
        return
    history.referee.interruptions += 1
    inwards, outwards = random.choice(((True, True), (True, True), (True, False), (False, True)))
    network.cut(address, inwards, outwards)
    history.simulator.after(random.random() ** 2 * 12.0, network.mend, address, random.random() < 0.6)


def break_line(history: History) -> None:
    address = _address(history, history.simulator.random)
    if address is not None:
        history.referee.interruptions += 1
        history.network.break_connection(address)


def pause(history: History) -> None:
    """Pauses a process: SIGSTOP, swapping, a closed laptop."""
    random = history.simulator.random
    seconds = random.random() ** 2 * 9.0
    history.referee.interruptions += 1
    who = random.randrange(3)
    if who == 0:
        history.core.pause(seconds)
    elif who == 1:
        random.choice(history.hubs).pause(seconds)
    else:
        random.choice(history.clients).pause(seconds)


def full_disk(history: History) -> None:
    disk = history.disk
    disk.full = True
    disk.brimful = history.simulator.chance(0.3)
    history.simulator.note("disk", "is full")
    history.simulator.after(history.simulator.random.random() * 4.0, make_room, history)


def make_room(history: History) -> None:
    history.disk.full = history.disk.brimful = False


def bad_fsync(history: History) -> None:
    """Makes the next commit fail; the core ends and is started again."""
    history.disk.fsync_fails = True
    history.referee.interruptions += 1


def wall_jump(history: History) -> None:
    """Sets the wall clock; the core reads it at its next start."""
    random = history.simulator.random
    history.core.wall_jump += (random.random() - 0.5) * 7200.0


def scale(history: History) -> None:
    """Changes the number of workers of a hub."""
    random = history.simulator.random
    _want(history, random.choice(history.hubs), random.randrange(4))


def _want(history: History, hub: SimulatedHub, workers: int) -> None:
    """Sends one Scale, as a tool that does not wait for an answer; it may be lost."""
    client = history.simulator.random.choice(history.clients)
    history.referee.scaled = True
    history.network.to_core(client.address, ScaleHub(hub=hub.name, workers=workers, request=-1))


def drain(history: History, random: Random, until: float) -> None:
    """Drains a hub for some time; the message that takes it back may be lost, so it is repeated."""
    simulator = history.simulator
    hub, client = random.choice(history.hubs), random.choice(history.clients)
    history.network.to_core(client.address, DrainHub(hub=hub.name, request=-3))

    def work_again() -> None:
        for each in history.hubs:
            history.network.to_core(
                random.choice(history.clients).address, DrainHub(hub=each.name, drain=False, request=-3)
            )
        if simulator.now < until + WORKS_AGAIN_S:
            simulator.after(1.0, work_again)

    simulator.after(0.5 + 5.0 * random.random(), work_again)


def reprioritize(history: History, random: Random) -> None:
    """Changes the priority of a submission that the core has."""
    scheduler = history.core.scheduler
    tasks = list(scheduler.state.records) if scheduler is not None else []
    if tasks:
        order = SetPriority(task=random.choice(tasks), priority=float(random.choice((0, 5, 10))), request=-4)
        history.network.to_core(random.choice(history.clients).address, order)


def stop_hub(history: History) -> None:
    """Stops a hub in good order; another takes its place some time later."""
    hub = history.simulator.random.choice(history.hubs)
    if hub.alive:
        history.simulator.note(hub.name, "is stopped")
        hub.stop("stopped")


def stop_core(history: History) -> None:
    """Stops the core on a user's request, with its hubs or without; it is started again later."""
    random = history.simulator.random
    history.referee.interruptions += 1
    client = random.choice(history.clients)
    history.network.to_core(client.address, StopCore(hubs=random.random() < 0.5, request=-2))


def withdraw(history: History) -> None:
    """Makes a hub withdraw the functions that it runs by name, and offer them again later."""
    random = history.simulator.random
    hub = random.choice(history.hubs)
    history.referee.withdrawn = True
    hub.add_tasks({})
    history.simulator.after(random.random() * 3.0, hub.add_tasks, NAMED)


def power_cut(history: History) -> None:
    """Cuts the power of the core's machine, with the hubs on it; only "full" promises anything then."""
    if history.disk.durability != "full":
        return
    history.simulator.note("power", "is cut")
    history.referee.interruptions += 1
    for place, hub in enumerate(history.hubs) if history.local else ():
        hub.crash()
        history.simulator.after(0.2 + history.simulator.random.random() * 5.0, history.new_hub, place)
    history.core.crash()
    history.disk.power_cut()


def mute_hub(history: History) -> None:
    """Crashes the core, and cuts off a hub for a while soon after the hub has greeted the new core."""
    random, network = history.simulator.random, history.network
    history.referee.interruptions += 1
    hub = random.choice(history.hubs)
    back_in = 0.1 + random.random() * 2.0
    history.core.crash(back_in)
    history.simulator.after(back_in + random.random() * 0.5, network.cut, hub.address, True, False)
    history.simulator.after(back_in + 0.5 + random.random() * 2.0, network.mend, hub.address, True)


def heal(history: History) -> None:
    """Repairs everything, and replaces every connection."""
    history.simulator.note("history", "everything is mended")
    history.referee.interruptions += 1  # each connection breaks once more
    history.disk.full = history.disk.brimful = history.disk.fsync_fails = False
    history.core.crash_in_mid_word = False
    network = history.network
    fair = {"drop": 0.0, "repeat": 0.0, "reorder": 0.0, "slow": 0.0, "unanswered": 0.0}
    network.weather = msgspec.structs.replace(network.weather, **fair)
    history.core.start()
    for place, hub in enumerate(history.hubs):
        if not hub.alive:
            history.new_hub(place)
    for place, client in enumerate(history.clients):
        if not client.alive:
            history.new_client(place)
    for address in list(network.links):
        network.mend(address, True)
    for hub in history.hubs:
        if hub.withdrawn:
            hub.add_tasks(NAMED)
    for later in (6.0, 12.0):
        history.simulator.after(later, _as_configured, history)


def _as_configured(history: History) -> None:
    """Gives each hub the number of workers that it began with."""
    for place, hub in enumerate(history.hubs):
        _want(history, hub, sum(group.workers for group in history.groups[place]))
