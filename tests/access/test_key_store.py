"""The key store: who a key belongs to, invitations that work once, revocation and expiry."""

from __future__ import annotations

import msgspec
import pytest

from nblb.access.key_store import Keys, KeyStore, checked_name, key_mark
from nblb.errors import NblbError


def key(letter: str) -> str:
    return letter * 40


def test_an_invitation_becomes_a_party_once() -> None:
    store = KeyStore()
    store.invite(key("i"), "anna", "user", 100.0, 60.0)
    assert store.verdict(key("i"), 101.0).state == "invited"
    assert store.verdict(key("a"), 101.0).state == "unknown"
    party = store.enrol(key("i"), key("a"), 101.0)
    assert (party.name, party.role) == ("anna", "user")
    assert store.verdict(key("a"), 102.0) == store.verdict(key("a"), 1e9)
    assert store.verdict(key("a"), 102.0).state == "known"
    assert store.verdict(key("i"), 102.0).state == "unknown"
    with pytest.raises(NblbError, match="used already"):
        store.enrol(key("i"), key("b"), 103.0)


def test_an_invitation_expires() -> None:
    store = KeyStore()
    store.invite(key("i"), "anna", "user", 100.0, 60.0)
    assert store.verdict(key("i"), 160.0).state == "refused"
    assert "expired" in store.verdict(key("i"), 160.0).reason
    with pytest.raises(NblbError, match="expired"):
        store.enrol(key("i"), key("a"), 160.0)
    assert store.invitations(160.0) == []


def test_a_revoked_or_expired_key_is_refused_with_the_reason() -> None:
    store = enrolled("anna")
    assert [party.name for party in store.revoke("anna", ["user"], "laptop lost")] == ["anna"]
    said = store.verdict(key("a"), 5.0)
    assert said.state == "refused"
    assert "'anna'" in said.reason
    assert "laptop lost" in said.reason
    assert store.revoke("anna", ["user"], "again") == []
    store = enrolled("anna")
    store.change("anna", ["user"], until=50.0)
    assert store.verdict(key("a"), 49.0).state == "known"
    assert "has expired" in store.verdict(key("a"), 50.0).reason


def test_revoking_a_name_withdraws_its_invitations_too() -> None:
    store = KeyStore()
    store.invite(key("i"), "anna", "user", 0.0, 60.0)
    assert store.revoke("anna", ["user"], "") == []
    assert store.verdict(key("i"), 1.0).state == "unknown"
    with pytest.raises(NblbError, match="no key of 'bob'; the names are: none"):
        store.revoke("bob", ["user"], "")


def test_a_person_may_have_several_keys_of_one_role() -> None:
    store = enrolled("anna")
    store.invite(key("i"), "anna", "user", 0.0, 60.0)
    store.enrol(key("i"), key("b"), 1.0)
    assert len(store.named("anna", ["user"])) == 2
    with pytest.raises(NblbError, match="'anna' is the name of a key with the role 'user'"):
        store.invite(key("j"), "anna", "admin", 0.0, 60.0)
    assert len(store.revoke("anna", ["user"], "")) == 2
    store.invite(key("j"), "anna", "admin", 0.0, 60.0)


def test_marks_of_files_are_of_one_key_each() -> None:
    store = KeyStore()
    store.invite(key("i"), "anna", "user", 0.0, 60.0)
    with pytest.raises(NblbError, match="known already"):
        store.enrol(key("i"), key("a"), 1.0, taken=[key_mark(key("a"))])
    assert len(key_mark(key("a"))) == 8


@pytest.mark.parametrize("name", ["", " anna", "a/b", "../x", "é", "a" * 65, "-x", "a\nb"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(NblbError, match="the name is"):
        checked_name(name)


def test_the_contents_come_back() -> None:
    store = enrolled("anna")
    store.invite(key("i"), "gpu1", "hub", 0.0, 60.0)
    again = KeyStore(msgspec.json.decode(msgspec.json.encode(store.contents()), type=Keys))
    assert again.parties() == store.parties()
    assert again.invitations(1.0) == store.invitations(1.0)


def test_a_key_must_be_one() -> None:
    with pytest.raises(NblbError, match="no public key"):
        KeyStore().invite("short", "anna", "user", 0.0, 1.0)


def enrolled(name: str) -> KeyStore:
    store = KeyStore()
    store.invite(key("i"), name, "user", 0.0, 60.0)
    store.enrol(key("i"), key("a"), 1.0)
    return store
