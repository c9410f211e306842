"""Tickets: for one key and one file."""

from __future__ import annotations

from nblb.access.tickets import is_valid, ticket


def test_a_ticket_is_for_one_key_and_one_file() -> None:
    said = ticket(b"secret", "key", "name")
    assert is_valid(b"secret", "key", "name", said)
    assert not is_valid(b"other", "key", "name", said)
    assert not is_valid(b"secret", "other", "name", said)
    assert not is_valid(b"secret", "key", "other", said)
    assert not is_valid(b"secret", "key", "name", "")
