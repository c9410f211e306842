"""Shares and limits of users and groups."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.access.key_store import Keys, KeyStore
from nblb.access.limits import Limits, changed_limits, checked_limited_name
from nblb.errors import NblbError

ANNA = Limits("anna")


def test_only_what_is_named_changes() -> None:
    anna = changed_limits(ANNA, {"share": 2, "max_running": 4, "group": "lab"})
    assert anna == Limits("anna", share=2.0, max_running=4, group="lab")
    assert changed_limits(anna, {"max_running": 0, "group": ""}) == Limits("anna", share=2.0)
    assert changed_limits(anna, {}) == anna


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"share": 0}, "the share is 0; it must be a number from 0.01 to 1000"),
        ({"share": 1e9}, "it must be a number from 0.01 to 1000"),
        ({"share": float("nan")}, "the share is 'nan'; it must be a number"),
        ({"share": "much"}, "the share is 'much'; it must be a number"),
        ({"share": True}, "the share is 'True'"),
        ({"max_running": -1}, "'max_running' is '-1'; it must be a whole number, 0 for no limit"),
        ({"max_queued": 1.5}, "'max_queued' is '1.5'"),
        ({"max_bytes": True}, "'max_bytes' is 'True'"),
        ({"group": "a\nb"}, "it must be a text of up to 128 characters"),
        ({"group": 3}, "it must be a text of up to 128 characters"),
    ],
)
def test_a_wrong_value_is_refused(about: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NblbError) as error:
        changed_limits(ANNA, about)
    assert sentence in str(error.value)


def test_a_group_is_in_no_group() -> None:
    with pytest.raises(NblbError, match="is in no other group"):
        changed_limits(Limits("lab", "group"), {"group": "campus"})


def test_names() -> None:
    assert checked_limited_name("José Müller") == "José Müller"
    for name in ("", "a" * 129, "a\x00b", None):
        with pytest.raises(NblbError):
            checked_limited_name(name)


def test_the_store_keeps_what_is_not_the_default() -> None:
    store = KeyStore()
    store.limit(Limits("anna", share=2.0))
    store.limit(Limits("lab", "group", max_running=3))
    again = KeyStore(store.contents())
    assert again.limits_of("anna").share == 2.0
    assert again.limits_of("anna", "group") == Limits("anna", "group")
    assert again.limits_of("lab", "group").max_running == 3
    again.limit(Limits("anna"))
    assert again.limits() == [Limits("lab", "group", max_running=3)]
    assert KeyStore(Keys()).limits() == []
