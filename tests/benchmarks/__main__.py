"""`python -m tests.benchmarks`: see run.py."""

from __future__ import annotations

from tests.benchmarks.run import main

if __name__ == "__main__":
    main()
