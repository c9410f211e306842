"""Saved frames as a traceback that any debugger can walk through."""

from __future__ import annotations

import linecache
import traceback
from typing import Any

import pytest

from nblb.client.debug.saved_frames import SavedRepr, traceback_of

FRAMES: list[dict[str, Any]] = [
    {
        "file": "cell In[7]",
        "line": 3,
        "first": 2,
        "source": ["def outer(x):", "    return inner(x)"],
        "function": "outer",
    },
    {"file": "wave.py", "line": 10, "first": 10, "source": ["    raise ValueError"], "function": "Wave.inner"},
]


def test_each_frame_stands_at_its_old_place_with_its_variables() -> None:
    tb = traceback_of(FRAMES, [{"x": 1}, {"y": SavedRepr("<a lock>")}])
    found = [(frame.name, frame.lineno, frame.line) for frame in traceback.extract_tb(tb)]
    assert found == [("outer", 3, "return inner(x)"), ("inner", 10, "raise ValueError")]
    assert tb is not None
    assert tb.tb_next is not None
    assert tb.tb_frame.f_locals["x"] == 1
    assert repr(tb.tb_next.tb_frame.f_locals["y"]) == "<a lock>"


def test_the_saved_source_is_shown_whatever_the_file_has_now() -> None:
    traceback_of(FRAMES, [{}, {}])
    assert linecache.getline("<wave.py>", 10) == "    raise ValueError\n"
    assert linecache.getline("<wave.py>", 1) == "\n"


def test_no_frames_no_traceback() -> None:
    assert traceback_of([], []) is None


def test_a_variable_of_which_only_the_text_was_kept_says_so() -> None:
    with pytest.raises(AttributeError, match="<a lock> has no acquire here: only its text was saved"):
        _ = SavedRepr("<a lock>").acquire
