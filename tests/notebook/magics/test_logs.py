from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nblb.errors import NblbError, UnknownTask
from nblb.notebook.magics import logs
from tests.notebook.fakes import FakeCluster
from tests.shared_files.test_output_log import handle, store

SHELL = SimpleNamespace(user_ns={})


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    cluster = FakeCluster()
    cluster.parameters.state_dir = tmp_path
    (tmp_path / "logs").mkdir()
    for role in ("monitor", "core", "hub"):
        (tmp_path / "logs" / f"{role}.log").write_text("".join(f"{role} says {n}\n" for n in range(500)))
    return cluster


def said(lab: Any, what: str, lines: int) -> str:
    return "".join(logs.read(SHELL, lab, what, lines))


def test_the_end_of_one_log_of_all_and_of_a_task(lab: Any) -> None:
    assert said(lab, "hub", 2) == "hub says 498\nhub says 499\n"
    heads = [line.split()[1] for line in said(lab, "", 1).splitlines() if line.startswith("──")]
    assert heads == ["core", "hub", "monitor"]
    assert said(lab, "ab12.7", 2) == "two\noh\n"


def test_what_is_not_there_is_said(lab: Any) -> None:
    with pytest.raises(NblbError, match="called 'hub-9'; there are core, hub, monitor"):
        said(lab, "hub-9", 2)
    with pytest.raises(UnknownTask, match="no task 'zz'"):
        said(lab, "zz", 2)


def test_following_a_log_tells_each_line_once_and_survives_a_new_file(lab: Any) -> None:
    log = lab.parameters.state_dir / "logs" / "core.log"
    new = iter([lambda: log.open("a").write("first\n"), lambda: None, lambda: log.write_text("anew\n")])

    def pause(_: float) -> None:
        next(new)()

    texts = logs.follow(SHELL, lab, "core", pause)
    assert [next(texts) for _ in range(4)] == ["", "first\n", "", "anew\n"]


@pytest.fixture
def kept(lab: Any, tmp_path: Path) -> Any:
    """The task's output is kept in files, which a hub writes."""
    lab.connection.session.welcome = SimpleNamespace(output=str(tmp_path))
    hub, worker = store(tmp_path), handle()
    yield lambda stream, text: hub.write(worker, ("ab12", 0, 1), 7, stream, text.encode())
    hub.end(worker)


def test_all_of_a_task_its_end_and_what_is_too_long_for_a_page(
    lab: Any, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept("stdout", "".join(f"{n}\n" for n in range(100_000)))
    kept("stderr", "last\n")
    assert said(lab, "ab12.7", 2) == "99999\nlast\n"
    assert "".join(logs.read(SHELL, lab, "ab12.7", None)).endswith("\n99999\nlast\n")
    monkeypatch.setattr(logs, "SHOWN_CHARS", 4)
    text = "".join(logs.read(SHELL, lab, "ab12.7", None))
    assert text.startswith("0\n1\n\n… 575 kB more: its future has all of it in stdout")


def test_following_a_task_tells_every_byte_once(lab: Any, kept: Any) -> None:
    states = iter(["RUNNING"] * 4 + ["DONE"])
    lab.connection.ask = lambda *_: {"state": next(states), "stdout": "the core's tail"}
    kept("stdout", "before\n")
    lines = iter(["one\n", "two\n"])
    texts = logs.follow(SHELL, lab, "ab12.7", lambda _: kept("stdout", next(lines)))
    assert "".join(texts) == "one\ntwo\n"


def test_following_a_task_ends_with_it(lab: Any) -> None:
    outputs = iter([("RUNNING", "a"), ("RUNNING", "a"), ("RUNNING", "ab"), ("DONE", "abc")])

    def ask(topic: str, about: dict[str, Any]) -> dict[str, Any]:
        if ask.located < 3:  # type: ignore[attr-defined]
            ask.located += 1  # type: ignore[attr-defined]
            return {"state": "RUNNING", "stdout": "a"}
        state, stdout = next(outputs)
        return {"state": state, "stdout": stdout}

    ask.located = 0  # type: ignore[attr-defined]
    lab.connection.ask = ask
    assert "".join(logs.follow(SHELL, lab, "ab12", lambda _: None)) == "bc"
