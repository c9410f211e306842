"""Computers and cables for tests: Linux network namespaces joined by veth, which can really be cut."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_numbers = itertools.count(1)


def why_not() -> str:
    """Why no network can be made here; "" if it can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "a network of its own needs Linux and iproute2"
    if os.getuid() != 0:
        return "only root can make a network of its own"
    network = Network()
    try:
        network.cable("a", "b")
    except RuntimeError as error:
        return f"no network can be made here: {error}"
    finally:
        network.close()
    return ""


def ip(*words: str) -> None:
    said = subprocess.run(["ip", *words], capture_output=True, text=True)
    if said.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {said.stderr.strip()}")


class Network:
    """Some computers, which share nothing of the network but the cables between them."""

    def __init__(self) -> None:
        self.name = f"nblb-{os.getpid()}-{next(_numbers)}"
        self.computers: list[str] = []
        self.cables = 0

    def space(self, computer: str) -> str:
        """The name of the computer's namespace; made when it is first asked for."""
        space = f"{self.name}-{computer}"
        if computer not in self.computers:
            ip("netns", "add", space)
            self.computers.append(computer)
            ip("-n", space, "link", "set", "lo", "up")
        return space

    def cable(self, left: str, right: str) -> Cable:
        self.cables += 1
        return Cable(self.space(left), self.space(right), self.cables)

    def at(self, computer: str, command: Sequence[str]) -> list[str]:
        """The command as it runs on that computer, which has a hostname of its own."""
        rename = 'hostname "$0" && exec "$@"'
        return ["ip", "netns", "exec", self.space(computer), "unshare", "--uts", "sh", "-c", rename, computer, *command]

    def close(self) -> None:
        for computer in self.computers:
            ip("netns", "del", f"{self.name}-{computer}")
        self.computers.clear()


class Cable:
    """Joins two computers; `addresses` are those of its ends."""

    def __init__(self, left: str, right: str, number: int) -> None:
        self.spaces = (left, right)
        self.addresses = tuple(f"10.77.{number}.{end}" for end in (1, 2))
        self.cards = tuple(f"02:00:00:77:{number:02x}:{end:02x}" for end in (1, 2))
        self.device = f"cable{number}"
        peer = ["peer", "name", self.device, "address", self.cards[1], "netns", right]
        ip("-n", left, "link", "add", self.device, "address", self.cards[0], "type", "veth", *peer)
        for space, address in zip(self.spaces, self.addresses, strict=True):
            ip("-n", space, "address", "add", f"{address}/30", "dev", self.device)
        self.mend()

    def cut(self) -> None:
        """Pull the plug: no end has a carrier."""
        ip("-n", self.spaces[0], "link", "set", self.device, "down")

    def silence(self, end: int) -> None:
        """What this end (0 or 1) sends is lost: its packets go to a card that is not there. It hears as before."""
        self._neighbour(end, "02:00:00:77:ff:ff")

    def mend(self) -> None:
        for space in self.spaces:
            ip("-n", space, "link", "set", self.device, "up")
        for end in (0, 1):
            self._neighbour(end, self.cards[1 - end])

    def _neighbour(self, end: int, card: str) -> None:
        where = ["lladdr", card, "dev", self.device, "nud", "permanent"]
        ip("-n", self.spaces[end], "neighbour", "replace", self.addresses[1 - end], *where)
