"""What a viewer may do, by role."""

from __future__ import annotations

import pytest

from nblb.errors import NotAllowed
from nblb.monitoring.access import NEEDS, Viewer, local_viewer, refusal
from nblb.monitoring.controls import Controls, done
from nblb.monitoring.poller import Poller
from tests.monitoring.fake_source import FakeSource


def test_the_account_of_the_cluster_may_do_everything() -> None:
    assert not any(refusal(local_viewer("root"), action, "bob") for action in NEEDS)


@pytest.mark.parametrize(
    ("role", "action", "owner", "words"),
    [
        ("viewer", "cancel", "anna", "needs the role user"),
        ("user", "cancel", "anna", ""),
        ("user", "cancel", "bob", "belongs to bob"),
        ("user", "scale", "", "needs the role admin"),
        ("admin", "scale", "", ""),
        ("guest", "cancel", "anna", "unknown role"),
    ],
)
def test_roles(role: str, action: str, owner: str, words: str) -> None:
    said = refusal(Viewer("anna", role), action, owner)
    assert words in said if words else said == ""


def test_a_refused_order_is_not_sent() -> None:
    source = FakeSource()
    controls = Controls(Poller(source.connect), Viewer("anna", "viewer"))
    with pytest.raises(NotAllowed):
        controls.scale("h1", "lab", 3)
    assert done(lambda: controls.cancel_job("j", "sweep", "anna")).startswith("not done: anna has the role viewer")
    assert source.orders == []
