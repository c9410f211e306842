"""Text of users: whatever it contains, the cleaned text fits into messages, terminals and the journal."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nblb.protocol.framing import Codec, Payload
from nblb.protocol.messages import Failure, KnobOffered, TaskFinished, TaskProgressed
from nblb.user_text import LONGEST_NAME, clean, clean_name, kind_of, text_of

any_text = st.text(st.characters())  # lone surrogates and control characters too


def is_fit(text: str) -> bool:
    text.encode()
    return all(character in "\n\t" or ord(character) >= 32 for character in text) and "\x7f" not in text


@example("0" * 20, 0)
@example("0" * 20, 1)
@given(any_text, st.integers(0, 50))
def test_what_is_cleaned_can_be_sent_and_shown(text: str, most: int) -> None:
    cleaned = clean(text, most)
    assert is_fit(cleaned)
    assert len(cleaned) <= 6 * most + 60  # an escape has six characters at most
    msgspec.json.encode(cleaned)


@given(any_text)
def test_a_name_is_one_line_and_the_same_each_time(text: str) -> None:
    name = clean_name(text)
    assert is_fit(name)
    assert "\n" not in name
    assert clean_name(name) == name or len(name) > LONGEST_NAME
    assert name == clean_name(text)


@pytest.mark.parametrize("text", ["", "plain", "two\nlines\tand a tab", "Zürich, 東京, 🙂", "a" * 1000])
def test_what_is_text_stays_as_it_is(text: str) -> None:
    assert clean(text, 1000) == text


def test_a_subclass_of_str_has_no_say() -> None:
    class Odd(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise SystemExit

        def __len__(self) -> int:
            raise KeyboardInterrupt

        def __getitem__(self, _: Any) -> str:
            raise MemoryError

    assert clean(Odd("x" * 20), 10).startswith("xxxxx\n… 10 characters")
    assert type(clean_name(Odd("x"))) is str


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_what_str_and_repr_raise_is_named(error: type[BaseException]) -> None:
    class Mute:
        def __str__(self) -> str:
            raise error

        __repr__ = __str__

    assert text_of(Mute(), 100) == f"<Mute: it cannot be shown, its str raises {error.__name__}>"
    assert text_of(Mute(), 100, repr).endswith(f"its repr raises {error.__name__}>")


def test_a_class_has_a_name_whatever_its_metaclass_says() -> None:
    class Meta(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise SystemExit

    class Odd(metaclass=Meta):
        pass

    assert kind_of(Odd()) == "Odd"
    assert kind_of(type("\x1b[2J", (), {})()) == "\\x1b[2J"


@given(any_text)
def test_no_message_fails_for_its_text(text: str) -> None:
    """The last line of defence: what was not cleaned where it came in."""
    failure = Failure(kind=text, message=text, traceback=text, payload=Payload((b"p",)))
    messages = [
        TaskFinished(task="t", attempt=1, failures=(failure,), payload=Payload((b"r",))),
        TaskProgressed(task="t", attempt=1, progress=1.0, note=text),
        KnobOffered(task="t", attempt=1, name="k", value=text, default=[text, {text: 1}]),
    ]
    codec = Codec(TaskFinished | TaskProgressed | KnobOffered)
    got = codec.decode(codec.encode(messages))
    assert got[0].failures[0].payload == Payload((b"p",))
    assert [type(message) for message in got] == [type(message) for message in messages]
    if text.isprintable():
        assert got == messages
