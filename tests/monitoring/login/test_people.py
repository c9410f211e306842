"""The roles of people: the account that runs the Monitor, those who have a key of the cluster, and all others."""

from __future__ import annotations

from pathlib import Path

from nblb.access.key_file import KeyFile
from nblb.access.key_store import Party, Role
from nblb.host import account
from nblb.monitoring.login.people import People
from nblb.parameters import load


def enrol(state: Path, name: str, role: Role, number: int) -> None:
    file = KeyFile(state)
    file.store = type(file.store)(file.store.contents())
    file.store.keys.parties.append(Party(f"{number:040d}", name, role))
    file.store = type(file.store)(file.store.keys)
    file.save()


def test_roles_are_those_of_the_keys(tmp_path: Path) -> None:
    people = People(lambda: load({"LB_STATE_DIR": str(tmp_path)}))
    assert people.named("anna").role == "viewer"
    assert (people.named(account()).role, people.named(account()).is_owner) == ("admin", True)
    assert not (tmp_path / "access").exists(), "looking makes nothing"
    for number, (name, role) in enumerate((("anna", "user"), ("bob", "admin"), ("gpu1", "hub"))):
        enrol(tmp_path, name, role, number)  # type: ignore[arg-type]
    assert [people.named(name).role for name in ("anna", "bob", "gpu1", "eve")] == ["user", "admin", "viewer", "viewer"]
    assert not people.named("bob").is_owner
    assert not people.is_revoked("anna")
    file = KeyFile(tmp_path)
    file.store.revoke("anna", ("user",), "left")
    file.save()
    assert people.is_revoked("anna")
    assert not people.is_revoked("eve"), "who has never had a key is not revoked"
    assert people.named("anna").role == "viewer"
