"""Errors of nblb as IPython shows them: the user's lines and the worker's lines, none of nblb."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nblb import payload
from nblb.errors import NblbError, NotSerializable, TaskFailed
from nblb.notebook import load_ipython_extension, tracebacks, unload_ipython_extension
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Failure

SOURCE = """def fit(x):
    y = x + 1
    if y > 3:
        raise ValueError("too large")
    return y
z = 3"""
TEXT = """Traceback (most recent call last):
  Cell In[2], line 4, in fit
    raise ValueError("too large")
ValueError: too large: really
"""
FRAME = (
    b'[{"function": "fit", "file": "Cell In[2]", "line": 4, "first": 1, "locals": {}, "values": {}, "source": '
    + repr(SOURCE.split("\n")).replace("'", '"').replace('"too large"', "too").encode()
    + b"}]"
)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ipython = InteractiveShell.instance()
    load_ipython_extension(ipython)
    monkeypatch.setattr(tracebacks, "shell", lambda: ipython)
    yield ipython
    unload_ipython_extension(ipython)
    InteractiveShell.clear_instance()


def failed(text: str = TEXT, frames: bytes = FRAME) -> TaskFailed:
    failure = Failure(
        kind="ValueError",
        message="too large",
        traceback=text,
        where="cell In[2] line 4",
        line='raise ValueError("too large")',
        call="fit(3)",
        host="lab2",
        attempt=2,
        frames=Payload.of([frames]),
        payload=payload.pack_exception(ValueError("too large")).payload,
    )
    error = payload.to_exception(failure)
    assert isinstance(error, TaskFailed)
    return error


def shown(shell: Any, error: BaseException) -> str:
    """What IPython makes of it in a cell, without colours."""
    shell.user_ns["error"] = error
    shell.run_cell("import nblb\nraise error")
    try:
        raise error
    except NblbError as caught:
        lines = caught._render_traceback_()  # type: ignore[attr-defined]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


def test_a_failed_task_shows_the_workers_lines_with_what_is_around_them(shell: Any) -> None:
    text = shown(shell, failed())
    assert "      2     y = x + 1\n      3     if y > 3:\n----> 4         raise ValueError" in text
    assert "5     return y" in text
    assert "z = 3" not in text  # it stands behind the function
    assert text.endswith("\nValueError: too large: really\ncalled as fit(3) on lab2, attempt 2")
    assert "direct cause" not in text


def test_lines_without_a_frame_are_shown_as_they_came(shell: Any) -> None:
    text = shown(shell, failed(frames=b"[]"))
    assert 'Cell In[2], line 4, in fit\n    raise ValueError("too large")\nValueError: too large: really' in text


def test_a_frame_without_source_is_shown_as_it_came(shell: Any) -> None:
    evaluated = TEXT.replace("Cell In[2], line 4, in fit\n", 'File "<string>", line 1, in <module>\n')
    for source in (b"[]", b'["one"]'):
        frame = b'[{"function": "<module>", "file": "<string>", "line": 9, "first": 5, "locals": {}, "source": %b}]'
        text = shown(shell, failed(evaluated.replace("line 1", "line 9"), frame % source))
        assert '<string>, line 9, in <module>\n    raise ValueError("too large")\nValueError: too large: really' in text


def test_colours_are_ipythons_and_can_be_off(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = tracebacks.remote(failed(), shell)
    assert "\x1b[31mValueError\x1b[39m: too large" in coloured
    assert "\x1b[32mCell In[2], line 4\x1b[39m" in coloured
    assert "\x1b[34m" in coloured  # a number
    assert "8;5;" not in coloured  # a colour without a name has one shade for light and dark themes
    assert "\x1b[01m" not in coloured  # JupyterLab makes bold colours darker
    monkeypatch.setattr(type(shell), "colors", "NoColor")
    assert "\x1b" not in tracebacks.remote(failed(), shell)


def test_frames_of_nblb_and_of_what_is_between_are_left_out(shell: Any) -> None:
    def submit() -> None:
        payload.pack_call((tracebacks, __import__("threading").Lock()), {})

    try:
        submit()
    except NotSerializable as error:
        lines = error._render_traceback_()  # type: ignore[attr-defined]
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
    assert "payload.pack_call(" in text  # the caller's line
    assert "calls.py" not in text
    assert "cloudpickle" not in text
    assert text.splitlines()[-1].startswith("NotSerializable: argument 2 cannot be pickled")


def test_unloading_gives_the_usual_traceback_back(shell: Any) -> None:
    assert hasattr(NblbError, "_render_traceback_")
    unload_ipython_extension(shell)
    assert not hasattr(NblbError, "_render_traceback_")
    tracebacks.remove()  # twice is harmless


def test_a_mistake_in_a_call_is_shown_at_the_users_line(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("import nblb as lb\n@lb.task\ndef add(a, b): return a + b\nadd.options(retry=3)")
    said = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    assert "'retry' is not an option of a task" in said
    assert "add.options(retry=3)" in said
    assert "task_decorator.py" not in said
    shell.run_cell("add.starmap([(1, 2), (3,)])")
    said = capsys.readouterr().out
    assert "call 1 has 1 arguments" in said
    assert "task_decorator.py" not in said


def test_an_error_of_the_users_own_code_is_shown_as_ever(shell: Any) -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    tracebacks.mistake(caught.value)
    assert not hasattr(caught.value, "_render_traceback_")
