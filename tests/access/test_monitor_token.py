"""Tokens of the Monitor: nobody without the key makes or changes one, and each has its kind and its end."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nblb.access.monitor_token import MonitorToken, opened, signed
from nblb.errors import NblbError, NotAllowed

KEY = os.urandom(32)
LINK = MonitorToken("link", "anna", "user", 1000.0, 60.0)


def test_what_was_signed_is_opened_until_its_end() -> None:
    text = signed(KEY, LINK)
    assert opened(KEY, "link", text, 999.0) == LINK
    assert not set(text) & set("&?#= /+"), "it stands in an address as it is"
    with pytest.raises(NotAllowed, match="has expired"):
        opened(KEY, "link", text, 1000.0)


def test_another_kind_and_another_key_are_refused() -> None:
    with pytest.raises(NotAllowed, match="is not a link"):
        opened(KEY, "login", signed(KEY, LINK), 0.0)
    with pytest.raises(NotAllowed, match="not of this Monitor"):
        opened(os.urandom(32), "link", signed(KEY, LINK), 0.0)


@given(st.data())
def test_a_changed_token_is_refused(data: st.DataObject) -> None:
    text = signed(KEY, LINK)
    at = data.draw(st.integers(0, len(text) - 2))  # the last character has unused bits
    other = data.draw(st.characters(codec="utf-8"))
    if other != text[at]:
        with pytest.raises(NotAllowed):
            opened(KEY, "link", text[:at] + other + text[at + 1 :], 0.0)


@given(st.text(max_size=3000))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(NotAllowed):
        opened(KEY, "link", text, 0.0)


@pytest.mark.parametrize("name", ["", "x" * 65, "an\nna", "\x1b[31m"])
def test_names_are_checked(name: str) -> None:
    with pytest.raises(NblbError, match="the name is"):
        signed(KEY, MonitorToken("link", name, "viewer", 1.0))
