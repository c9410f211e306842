"""Runs `nblb bench` as `python -m nblb.bench`."""

from __future__ import annotations

import sys

from nblb.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
