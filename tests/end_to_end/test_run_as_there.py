"""A hub of root on another computer runs each user's tasks as the Unix account that the user's key names."""

from __future__ import annotations

import json
import pwd
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import unix_accounts
from tests.end_to_end.test_several_computers import CLIENT, Computers
from tests.hosts import lab, missing
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(missing() or unix_accounts.missing()), reason=missing() or unix_accounts.missing() or "-"),
]
WORK = """
import os

@lb.task
def who(data):
    return os.getuid(), os.environ["HOME"], data * 2

@lb.task
def reads(path):
    return open(path).read()

@lb.task
def writes(path, text):
    os.umask(0o077)
    with open(path, "w") as file:
        file.write(text)

mine, other = sys.argv[2:4]
uid, home, doubled = who.submit(os.urandom(8 << 20)).result(60)
print(uid, home, len(doubled))
writes.submit(mine, "of " + cluster.user).result(60)
print(reads.submit(mine).result(60))
if other:
    print(type(reads.options(retries=0).submit(other).exception(60).__cause__).__name__)
print(raised(lambda: who.options(user="root").submit(1).result(60))[0])
print(sum(row[2] for row in who.map([1] * 100).results()))
"""


@pytest.fixture(scope="module")
def names() -> Iterator[list[str]]:
    with unix_accounts.made(2) as names:
        yield names


def test_each_user_of_a_remote_hub_is_an_account_of_its_own(names: list[str]) -> None:
    with lab(2) as hosts:
        made = Computers(hosts)
        try:
            made.start()
            made.join(made.other, "gpu1", "hub")
            for name in names:
                made.join(made.core, name, known_as=name)
            settings = made.other.write(
                "hub.json", json.dumps({"WKHUB_WORKERS": [{"nWorkers": 2, "run_as": "submitter"}]})
            )
            log = made.other.file("hub.log")
            hub = made.other.popen(
                sys.executable, "-m", "nblb", "hub", "--cluster", "lab", "-p", settings,
                stdout=log.open("w"), stderr=subprocess.STDOUT,
            )  # fmt: skip
            made._processes.append(hub)
            wait_until(lambda: "connected to the Load Balancer" in log.read_text(), 20, "the hub is connected")
            script = made.core.write("client.py", CLIENT + WORK)
            earlier = ""
            for name in names:
                account = pwd.getpwnam(name)
                mine = f"{account.pw_dir}/made"
                said = made.core.run(sys.executable, script, name, mine, earlier).stdout.split("\n")
                assert said[0] == f"{account.pw_uid} {account.pw_dir} {16 << 20}"
                assert said[1] == f"of {name}"
                assert said[2] == ("PermissionError" if earlier else "NotAllowed")
                assert said[-2] == "200"
                earlier = mine
        finally:
            made.close()
