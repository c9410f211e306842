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
        Console(stream).write("good", "LB - ADDING WORKER (worker_c0b28c1f)")
    assert file.getvalue() == "LB - ADDING WORKER (worker_c0b28c1f)\n"
    assert terminal.getvalue() == "\033[92mLB - ADDING WORKER (worker_c0b28c1f)\033[0m\n"
    closed = io.StringIO()
    closed.close()
    Console(closed).write("error", "nobody reads this")


def test_texts_of_users_cannot_control_a_terminal_or_fill_a_log() -> None:
    terminal = Terminal()
    Console(terminal).write("info", "TASK \x1b]0;title\x07\x1b[2J\r\u202e OF u\nand\ta line")
    assert terminal.getvalue() == ("\033[94mTASK \\x1b]0;title\\x07\\x1b[2J\\x0d\\u202e OF u\nand\ta line\033[0m\n")
    log = io.StringIO()
    Console(log).write("info", "n" * 5_000_000)
    assert len(log.getvalue()) < 30_000
