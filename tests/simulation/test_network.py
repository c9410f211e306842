"""Connections: order, loss at a break, cuts."""

from __future__ import annotations

from typing import Any

from nblb.protocol.messages import EndCommitted, Heartbeat, Message, TaskStarted
from nblb.simulation.network import CALM, Network, Weather
from nblb.simulation.simulator import Simulator


class Ear:
    """An end that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.connections = self.breaks = 0
        self.gone: list[str] = []

    def hear(self, sender: str, message: Message) -> None:
        self.heard.append(message)

    def connected(self) -> None:
        self.connections += 1

    def disconnected(self) -> None:
        self.breaks += 1

    def unreachable(self, address: str) -> None:
        self.gone.append(address)


def _pair(weather: Weather = CALM, seed: int = 1) -> tuple[Simulator, Network, Ear, Ear]:
    simulator = Simulator(seed)
    network, core, party = Network(simulator, weather), Ear(), Ear()
    network.dial("hub:a", party)
    network.listen(core)
    simulator.run(1.0)
    assert party.connections == 1
    return simulator, network, core, party


def _facts(number: int) -> list[TaskStarted]:
    return [TaskStarted(task="t", attempt=n) for n in range(number)]


def test_a_connection_keeps_the_order() -> None:
    simulator, network, core, party = _pair(Weather(jitter_s=0.5, slow=0.5))
    for fact in _facts(50):
        network.to_core("hub:a", fact)
        network.to_party("hub:a", EndCommitted(task="t", attempt=fact.attempt))
    simulator.run(100.0)
    assert core.heard == _facts(50)
    assert [message.attempt for message in party.heard] == list(range(50))


def test_a_break_loses_what_is_on_its_way_and_tells_the_party_when_it_is_connected_anew() -> None:
    simulator, network, core, party = _pair()
    network.to_core("hub:a", Heartbeat())
    network.to_party("hub:a", Heartbeat())
    network.break_connection("hub:a")
    network.to_party("hub:a", Heartbeat())
    simulator.run(2.0)
    assert (core.heard, party.heard, party.connections, party.breaks) == ([], [], 2, 1)
    assert core.gone == ["hub:a"]
    network.to_core("hub:a", Heartbeat())
    simulator.run(3.0)
    assert len(core.heard) == 1


def test_a_cut_works_one_way_and_what_was_said_meanwhile_arrives_when_it_ends() -> None:
    simulator, network, core, party = _pair()
    network.cut("hub:a", inwards=True, outwards=False)
    network.to_core("hub:a", Heartbeat())
    network.to_party("hub:a", Heartbeat())
    simulator.run(5.0)
    assert (len(core.heard), len(party.heard)) == (0, 1)
    network.mend("hub:a", broken=False)
    simulator.run(6.0)
    assert len(core.heard) == 1


def test_a_cut_that_breaks_the_connection_loses_what_the_core_said() -> None:
    simulator, network, _, party = _pair()
    network.cut("hub:a", inwards=True, outwards=True)
    network.to_party("hub:a", Heartbeat())
    simulator.run(5.0)
    network.mend("hub:a", broken=True)
    simulator.run(6.0)
    assert (party.heard, party.connections) == ([], 2)


def test_weather_repeats_reorders_and_drops_and_a_drop_breaks_the_connection() -> None:
    simulator, network, core, _ = _pair(Weather(repeat=0.5, reorder=0.3, jitter_s=0.1))
    for fact in _facts(40):
        network.to_core("hub:a", fact)
    simulator.run(5.0)
    assert len(core.heard) > 40
    assert core.heard != sorted(core.heard, key=lambda fact: int(fact.attempt))
    simulator, network, core, party = _pair(Weather(drop=1.0))
    network.to_core("hub:a", Heartbeat())
    simulator.run(10.0)
    assert (core.heard, party.connections) == ([], 2)


def test_a_connection_may_lose_the_first_word_of_the_core_and_last() -> None:
    simulator, network, core, party = _pair(Weather(unanswered=1.0))
    for _ in range(2):
        network.to_core("hub:a", Heartbeat())
        for attempt in range(3):
            network.to_party("hub:a", EndCommitted(task="t", attempt=attempt))
        simulator.run(simulator.now + 1.0)
        network.break_connection("hub:a")
        simulator.run(simulator.now + 1.0)
    assert [message.attempt for message in party.heard] == [1, 2, 1, 2]
    assert (len(core.heard), party.connections) == (2, 3)


def test_without_a_core_nobody_is_connected_and_a_new_one_is_found() -> None:
    simulator, network, _, party = _pair()
    network.close()
    simulator.run(5.0)
    assert party.connections == 1
    core = Ear()
    network.listen(core)
    simulator.run(6.0)
    assert party.connections == 2
    network.to_core("hub:a", Heartbeat())
    network.hang_up("hub:a")
    simulator.run(7.0)
    assert core.heard == []
