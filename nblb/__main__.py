"""`python -m nblb`: the command line, and how every process of a cluster is started."""

from __future__ import annotations

import sys

from nblb.cli import main

if __name__ == "__main__":
    sys.exit(main())
