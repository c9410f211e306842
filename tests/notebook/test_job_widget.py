from __future__ import annotations

from nblb.client.snapshot import INDEX, STATES
from nblb.notebook.job_widget import fit


def test_a_longer_job_is_folded_and_a_single_failure_stays_visible() -> None:
    states = bytearray([INDEX["DONE"]] * 1_000_000)
    states[777_777] = INDEX["FAILED"]
    states[5] = INDEX["RUNNING"]
    folded = fit(bytes(states), 10_000, list(STATES))
    assert len(folded) == 10_000
    assert folded[7777] == INDEX["FAILED"]
    assert folded[0] == INDEX["RUNNING"]
    assert set(folded[1:7777]) == {INDEX["DONE"]}


def test_every_state_keeps_its_number() -> None:
    states = bytes(range(len(STATES)))
    assert fit(states, 10_000, list(STATES)) == states
    for code in states:
        assert fit(bytes([code]) * 4, 1, list(STATES)) == bytes([code])
