"""Waiting for a process of the cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nblb.errors import LoadBalancerUnreachable, NblbError
from nblb.launch import readiness, roles


def test_a_role_that_is_never_ready_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "START_DEADLINE_S", 0.1)
    me = roles.RoleProcess("hub", os.getpid(), Path("nowhere"))
    with pytest.raises(NblbError, match="the hub was not ready within"):
        readiness.wait_for(me, "hub", lambda: None)


def test_the_last_answer_is_in_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "START_DEADLINE_S", 0.1)

    def unreachable() -> None:
        raise LoadBalancerUnreachable("nobody answers")

    me = roles.RoleProcess("core", os.getpid(), Path("nowhere"))
    with pytest.raises(NblbError, match=r"\(nobody answers\)"):
        readiness.wait_for(me, "core", unreachable)


def test_a_core_that_has_gone_is_told_at_once() -> None:
    def gone() -> None:
        raise readiness.CoreGone("it has ended")

    with pytest.raises(readiness.CoreGone):
        readiness.wait_for(roles.RoleProcess("hub", os.getpid(), Path("nowhere")), "hub", gone)
