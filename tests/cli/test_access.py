"""Shares and limits from the command line, on a core without keys, and as Python shows them."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

import pytest

import nblb as lb
from nblb import cli
from nblb.cli.command import share, size
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster


def test_sizes_and_shares() -> None:
    assert [size(text) for text in ("0", "500", "20kB", "1.5 GB", "2GiB", "1m")] == [
        0, 500, 20 * 1024, 3 * 2**29, 2**31, 2**20,
    ]  # fmt: skip
    assert [share(text) for text in ("2", "0.5")] == [2.0, 0.5]
    for parse, text in ((size, "much"), (size, "-1"), (share, "0"), (share, "nan"), (share, "x")):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


def test_set_and_list(cluster: Cluster, parameters_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert cli.main([*arguments, "-p", parameters_file]) == 0
        return capsys.readouterr().out

    text = said("users", "set", "zoe", "--share", "2", "--max-running", "1", "--max-bytes", "20kB", "--group", "lab")
    assert text == "zoe: share 2, max-running 1, max-bytes 20 kB, group lab; has no key, and has sent no task so far\n"
    assert said("groups", "set", "lab", "--share", "3", "--max-queued", "500") == "lab: share 3, max-queued 500\n"
    (group,) = json.loads(said("groups", "--json"))
    assert (group["name"], group["share"], group["users"]) == ("lab", 3.0, ["zoe"])
    assert "20 kB" in said("users", "list")

    nap = lb.task(time.sleep).options(user="zoe")
    napping, waiting = nap.submit(1.5), nap.submit(0)
    wait_until(lambda: "max-running" in waiting.why(), 20, "the second to be held back")
    (zoe,) = [user for user in lb.users() if user.name == "zoe"]
    assert (zoe.share, zoe.group, zoe.max_running, zoe.max_bytes, zoe.role) == (2.0, "lab", 1, 20 * 1024, "")
    assert zoe.stored_bytes > 0
    with pytest.raises(lb.QuotaExceeded, match="zoe may store 20 kB"):
        lb.task(len).options(user="zoe").submit(bytes(range(256)) * 400).result()
    assert [napping.result(), waiting.result()] == [None, None]


def test_what_needs_keys_says_so(cluster: Cluster, parameters_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["users", "set", "zoe", "--role", "admin", "-p", parameters_file]) == 1
    assert "it has no keys" in capsys.readouterr().err
    assert cli.main(["users", "set", "zoe", "-p", parameters_file]) == 1
    assert "nothing to set was given" in capsys.readouterr().err
