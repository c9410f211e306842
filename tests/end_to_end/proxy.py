"""A replacement for the network between a hub and the core: it forwards a Unix socket until it is told to cut it."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path

from tests.waiting import wait_until

TURN_S = 0.02
BYTES = 1 << 16


class Proxy:
    """Listens at `near` for the hub, and dials `far`, the core's door, for each connection.

    A cut is what TCP makes of a lost cable: nothing moves, and nobody is told. `mend` lets it all through, late;
    `reset` breaks the connections first, as a kernel that has tried for too long does.
    """

    def __init__(self, near: Path, far: Path) -> None:
        self.far = str(far)
        self.cut_to_core = self.cut_to_hub = False
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(near))
        self.listener.listen()
        self.over = self.resetting = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def cut(self, to_core: bool = True, to_hub: bool = True) -> None:
        self.cut_to_core, self.cut_to_hub = to_core, to_hub

    def mend(self) -> None:
        self.cut(False, False)

    def reset(self) -> None:
        """Done by the thread, which would otherwise wait for sockets that are closed under it."""
        self.resetting = True
        wait_until(lambda: not self.resetting, 10, "the connections to be broken")

    def close(self) -> None:
        self.over = True
        self.thread.join()
        self.break_all()
        self.listener.close()

    def break_all(self) -> None:
        for pair in self.pairs:
            for end in pair:
                end.close()
        self.pairs.clear()
        self.resetting = False

    def run(self) -> None:
        while not self.over:
            if self.resetting:
                self.break_all()
            moved = self.turn()
            if not moved:
                select.select([self.listener, *(end for pair in self.open_ends() for end in pair)], [], [], TURN_S)

    def open_ends(self) -> list[tuple[socket.socket, ...]]:
        """Those that may speak."""
        hubs = () if self.cut_to_core else [hub for hub, _ in self.pairs]
        cores = () if self.cut_to_hub else [core for _, core in self.pairs]
        return [tuple(hubs), tuple(cores)]

    def turn(self) -> bool:
        """Forward what there is; False if there was nothing."""
        moved = self.accept()
        for pair in list(self.pairs):
            hub, core = pair
            for source, target, is_cut in ((hub, core, self.cut_to_core), (core, hub, self.cut_to_hub)):
                if is_cut or not select.select([source], [], [], 0)[0]:
                    continue
                try:
                    data = source.recv(BYTES)
                    if not data:
                        raise ConnectionResetError
                    target.sendall(data)
                    moved = True
                except OSError:
                    for end in pair:
                        end.close()
                    self.pairs.remove(pair)
                    break
        return moved

    def accept(self) -> bool:
        if self.cut_to_core or not select.select([self.listener], [], [], 0)[0]:
            return False
        hub, _ = self.listener.accept()
        core = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            core.connect(self.far)
            self.pairs.append((hub, core))
            return True
        hub.close()
        core.close()
        return False
