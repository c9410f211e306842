"""Shares and limits: who has which, from when on, and for how long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nblb.access.limits import Limits
from nblb.broker import queries
from nblb.broker.access.limit_changes import LimitChanges
from nblb.errors import NblbError
from nblb.protocol.messages import Administer
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy


def changes(folder: Path, scheduler: Scheduler | None = None) -> LimitChanges:
    return LimitChanges(folder, scheduler or Scheduler(Policy()), None)


def perform(limits: LimitChanges, action: str = "set", **about: Any) -> Any:
    value, commands = limits.perform("root", Administer(request=1, action=action, about=about), 0.0)
    assert not commands
    return value


def test_a_change_counts_at_once_and_after_a_restart(tmp_path: Path) -> None:
    scheduler = Scheduler(Policy())
    anna = scheduler.state.share.user("anna")
    limits = changes(tmp_path, scheduler)
    assert not (tmp_path / "access").exists()
    value = perform(limits, name="anna", share=2, max_running=3, of="users")
    assert value == {"name": "anna", "share": 2.0, "group": "", "max_queued": 0, "max_running": 3, "max_bytes": 0,
                     "known": True}  # fmt: skip
    assert (anna.share, anna.most) == (2.0, 3)
    again = Scheduler(Policy())
    changes(tmp_path, again)
    assert again.state.share.user("anna").limits == Limits("anna", share=2.0, max_running=3)
    limits.close()


def test_a_group_and_its_users(tmp_path: Path) -> None:
    scheduler = Scheduler(Policy())
    limits = changes(tmp_path, scheduler)
    assert not perform(limits, name="lab", of="groups", share=3)["known"]
    assert not perform(limits, name="anna", of="users", group="lab")["known"]
    assert perform(limits, name="lab", of="groups", max_bytes=10)["known"]
    (row,) = perform(limits, "parties", of="groups")
    assert (row["name"], row["share"], row["max_bytes"], row["users"]) == ("lab", 3.0, 10, ["anna"])
    group = scheduler.state.share.user("anna").group
    assert group is not None
    assert group.share == 3.0
    (row,) = queries.answer(scheduler, "groups", {}, 0.0)
    assert (row["group"], row["users"]) == ("lab", ["anna"])
    limits.close()


def test_each_change_is_in_the_audit_log(tmp_path: Path) -> None:
    limits = changes(tmp_path)
    perform(limits, name="anna", of="users", share=2)
    limits.close()
    (line,) = (tmp_path / "access" / "audit.log").read_text().splitlines()
    said = json.loads(line)
    assert {**said, "at": 0} == {"at": 0, "event": "admin limit", "by": "root", "of": "user", "name": "anna",
                                 "of_share": 2.0}  # fmt: skip


@pytest.mark.parametrize(
    ("action", "about", "sentence"),
    [
        ("set", {"name": "anna"}, "nothing to set was given; give one of share, group, max_queued"),
        ("set", {"share": 2}, "it must be a text of up to 128 characters"),
        ("set", {"name": "anna", "share": -1}, "it must be a number from"),
        ("set", {"name": "anna", "role": "admin"}, "it has no keys; start it with"),
        ("invite", {"name": "anna"}, "it has no keys; start it with"),
        ("parties", {"of": "hubs"}, "it has no keys; start it with"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, action: str, about: dict[str, Any], sentence: str) -> None:
    limits = changes(tmp_path)
    with pytest.raises(NblbError) as error:
        perform(limits, action, **about)
    assert sentence in str(error.value)
    assert not (tmp_path / "access").exists() or not (tmp_path / "access" / "audit.log").exists()


def test_what_cannot_be_written_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(Policy())
    limits = changes(tmp_path, scheduler)
    perform(limits, name="anna", of="users", share=2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nblb.access.key_file.write_private", full)
    with pytest.raises(OSError, match="No space"):
        perform(limits, name="anna", of="users", share=5)
    assert scheduler.state.share.user("anna").share == 2.0
    assert limits.of("anna").share == 2.0
    limits.close()


def test_the_answer_about_users_has_those_with_limits_only(tmp_path: Path) -> None:
    scheduler = Scheduler(Policy())
    scheduler.state.share.user("bob")
    limits = changes(tmp_path, scheduler)
    perform(limits, name="anna", of="users", share=2)
    rows = limits.with_keys(queries.answer(scheduler, "users", {}, 0.0))
    assert [(row["name"], row["share"]) for row in rows] == [("bob", 1.0), ("anna", 2.0)]
    assert {"stored_bytes", "queued", "running", "used_s"} <= rows[0].keys()
    limits.close()
