"""The lines that processes print for people."""

from __future__ import annotations

import io

from nblb.system.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        Console(stream).say("good", "LB - ADDING WORKER (worker_c0b28c1f)")
    assert file.getvalue() == "LB - ADDING WORKER (worker_c0b28c1f)\n"
    assert terminal.getvalue() == "\033[92mLB - ADDING WORKER (worker_c0b28c1f)\033[0m\n"
    closed = io.StringIO()
    closed.close()
    Console(closed).say("error", "nobody reads this")
