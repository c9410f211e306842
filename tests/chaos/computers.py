"""Chaos between computers: cables are cut and slowed, hubs and the core killed, while a client works with large data.

    python -m tests.chaos.computers --rounds 100 --seed 1

A core, two computers with hubs, and one with a client, each in a network namespace. Each round does one thing at
random and lets the cluster work for a while; afterwards everything is mended, and the client must have all results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.end_to_end.test_several_computers import Computers
from tests.hosts import Host, lab, missing
from tests.waiting import wait_until

END_S = 240.0  # for the client to end after everything is mended
CLIENT = """
import hashlib, os, random, sys, time
import numpy as np
import nblb as lb

@lb.task(retries=0)
def made(seed, size):
    time.sleep(seed % 7 / 50)
    return np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)

@lb.task
def digest(seed, data):
    return seed, hashlib.sha256(data.tobytes()).hexdigest()

@lb.task
def talk(seed):
    print("x" * 5000)
    lb.progress(50)
    time.sleep(0.05)
    return seed

def wanted(seed, size):
    return np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8)

cluster = lb.connect("lab")
rng = random.Random(int(sys.argv[1]))
turn = 0
while not os.path.exists(sys.argv[2]):
    turn += 1
    sizes = [rng.choice([10, 1000, 300_000, 2_000_000, 5_000_000]) for _ in range(8)]
    seeds = [turn * 100 + n for n in range(8)]
    job = made.map(seeds, sizes, job=f"made-{turn}", chunksize=rng.choice([1, 3]))
    words = [talk.submit(seed) for seed in seeds]
    big = wanted(turn, rng.choice([100, 3_000_000]))
    sent = [digest.submit(seed, big) for seed in seeds]
    for seed, size, value in zip(seeds, sizes, job.results(timeout=400)):
        assert (value == wanted(seed, size)).all(), (seed, size)
    said = hashlib.sha256(big.tobytes()).hexdigest()
    assert [future.result(400) for future in sent] == [(seed, said) for seed in seeds]
    assert [future.result(400) for future in words] == seeds
    job.forget()
    print(turn, flush=True)
cluster.close()
print("all right", flush=True)
"""


class Chaos:
    """The computers, and what can happen to them."""

    def __init__(self, made: Computers, rng: random.Random) -> None:
        self.made, self.rng = made, rng
        self.hubs: dict[Host, subprocess.Popen[str]] = {}
        self.logs: list[Path] = []
        self._slow: set[Host] = set()

    @property
    def others(self) -> list[Host]:
        return self.made.hosts[1:]

    def start_hub(self, host: Host) -> None:
        log = host.file(f"hub-{len(self.logs)}.log")
        self.logs.append(log)
        with log.open("w") as file:
            self.hubs[host] = host.popen(
                sys.executable, "-m", "nblb", "hub", "--cluster", "lab", "--workers", "2", stdout=file,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    # ── troubles ──

    def cut(self) -> str:
        host, seconds = self.rng.choice(self.others), self.rng.choice([0.1, 0.5, 1.5, 3.0, 6.0])
        host.cut()
        time.sleep(seconds)
        host.mend()
        return f"{host.ip} is cut off for {seconds} s"

    def slow(self) -> str:
        host, rate = self.rng.choice(self.others), self.rng.choice(["8mbit", "40mbit", "200mbit"])
        host.rate(rate)
        self._slow.add(host)
        return f"{host.ip} has {rate}"

    def fast(self) -> str:
        for host in self._slow:
            host.rate("")
        self._slow.clear()
        return "all are fast"

    def kill_hub(self) -> str:
        host = self.rng.choice(list(self.hubs))
        for child in psutil.Process(self.hubs[host].pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "hub" in child.cmdline():
                    child.kill()
        self.hubs[host].kill()
        self.hubs[host].wait(10)
        self.start_hub(host)
        return f"the hub of {host.ip} is killed and started again"

    def stop_hub(self) -> str:
        host, seconds = self.rng.choice(list(self.hubs)), self.rng.choice([0.3, 2.0, 5.0])
        found = [p for p in psutil.Process(self.hubs[host].pid).children(recursive=True) if "hub" in p.cmdline()]
        for process in found:
            process.suspend()
        time.sleep(seconds)
        for process in found:
            process.resume()
        return f"the hub of {host.ip} stands still for {seconds} s"

    def kill_core(self) -> str:
        pid = json.loads(self.made.at_core("status", "--json"))["pid"]
        self.made.core.run("kill", "-9", str(pid))
        wait_until(lambda: ":9213" not in self.made.core.run("ss", "-Hltn").stdout, 20, "the bulk door ends, too")
        self.made.start()
        return "the core is killed and started again"

    def troubles(self) -> list[Callable[[], str]]:
        return [self.cut, self.cut, self.cut, self.slow, self.fast, self.kill_hub, self.stop_hub, self.kill_core]


def faults(chaos: Chaos) -> list[str]:
    """What the logs of hubs and core say that they must not."""
    logs = [*chaos.logs, *chaos.made.core.file("state/nblb/lab/logs").glob("*.log")]
    return [f"{log}: {text[text.index(MARK) - 200 :][:3000]}" for log in logs if MARK in (text := log.read_text())]


MARK = "Traceback (most recent call last)"


def run(rounds: int, seed: int) -> list[str]:
    """Play so many rounds; return what was wrong."""
    rng = random.Random(seed)
    with lab(4) as hosts:
        made = Computers(hosts)
        chaos = Chaos(made, rng)
        made.start()
        for number, host in enumerate(hosts[1:3]):
            made.join(host, f"gpu{number}", "hub")
            chaos.start_hub(host)
        made.join(hosts[3], "anna")
        end = f"{hosts[3].home}/end"
        client = hosts[3].popen(
            sys.executable, hosts[3].write("client.py", CLIENT), str(seed), end,
            stdout=hosts[3].file("client.out").open("w"), stderr=hosts[3].file("client.err").open("w"),
        )  # fmt: skip
        wrong: list[str] = []
        try:
            for number in range(rounds):
                print(f"{number:4} {rng.choice(chaos.troubles())()}", flush=True)
                time.sleep(rng.choice([0.2, 1.0, 3.0]))  # the time that the cluster works
                if client.poll() is not None:
                    break
            chaos.fast()
            hosts[3].write("end", "")
            try:
                client.wait(END_S)
            except subprocess.TimeoutExpired:
                wrong.append(f"the client has not ended within {END_S:g} s")
            said = hosts[3].file("client.out").read_text().split("\n")
            wrong += [] if "all right" in said else [f"the client: {hosts[3].file('client.err').read_text()[-3000:]}"]
            wrong += faults(chaos)
            print(f"{rounds} rounds, {sum(word.isdigit() for word in said)} turns of the client")
        finally:
            for hub in chaos.hubs.values():
                hub.kill()
                hub.wait(10)
            client.kill()
            client.wait(10)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if reason := missing():
        print(reason)
        return 2
    wrong = run(options.rounds, options.seed)
    print(*wrong, sep="\n\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
