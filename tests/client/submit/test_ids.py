"""Ids are unique among processes, and equal for the same items of a job in every kernel."""

from __future__ import annotations

import os
import re

from nblb.client.submit.ids import Ids, new_id, record_id


def test_ids_are_32_hex_digits_and_differ() -> None:
    ids = Ids()
    made = [ids() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)
    assert made == sorted(made)
    assert Ids()()[:16] != made[0][:16]


def test_a_forked_child_makes_others() -> None:
    before = new_id()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    assert theirs[:16] != before[:16] == new_id()[:16]


def test_a_record_of_a_job_has_one_id() -> None:
    assert record_id("j", 0, 10) == record_id("j", 0, 10)
    assert len({record_id("j", 0, 10), record_id("j", 10, 10), record_id("j", 0, 1), record_id("k", 0, 10)}) == 4
    assert record_id("j 1", 0, 1) != record_id("j", 1, 1)
