"""`python -m tests.chaos --kills N --seed S`: exits with 1 when a promise was broken, and keeps the folder then."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nblb.parameters import load
from tests.chaos.play import play
from tests.chaos.troubles import A_STRIKE_MB, DISK_MB


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options.add_argument("--durability", default="process", choices=("process", "full"))
    options.add_argument("--troubles", action="store_true", help="files, disks, descriptors and stops, too")
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nbc"))
    disk = folder / "disk"
    disk.mkdir()
    size_mb = DISK_MB + A_STRIKE_MB * chosen.kills
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "nblb-chaos", str(disk)]
    mounted = chosen.troubles and os.getuid() == 0 and subprocess.run(mount, check=False).returncode == 0
    try:
        return _play(folder, disk, chosen)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
        if not any((folder / "play").glob("*")):
            shutil.rmtree(folder, ignore_errors=True)


def _play(folder: Path, disk: Path, chosen: argparse.Namespace) -> int:
    os.environ["NBLB_RUNTIME_DIR"] = str(folder / "run")
    played = play(
        load(
            {
                "LB_NAME": "chaos",
                "LB_STATE_DIR": str(disk / "state"),
                "LB_DURABILITY": chosen.durability,
                "WKHUB_WORKERS": [{"nWorkers": 2}],
            }
        ),
        folder / "play",
        chosen.kills,
        chosen.seed,
        chosen.troubles,
    )
    print(played.summary())
    for problem in played.verdict.problems[:50]:
        print(f"  {problem}")
    if played.verdict.problems:
        print(f"  everything is kept in {folder}")
        return 1
    shutil.rmtree(folder / "play", ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
