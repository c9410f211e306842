"""Tasks that keep a worker, but no processor."""

from __future__ import annotations


def wait_for(gate: str, name: str) -> None:
    """Says that it has begun, in a file beside the gate; ends when the gate is there."""
    import time
    from pathlib import Path

    path = Path(gate)
    path.with_name(f"begun-{name}").touch()
    while path.parent.exists() and not path.exists():
        time.sleep(0.01)


def nap(seconds: float) -> float:
    """Takes this long however busy the machine is."""
    import time

    time.sleep(seconds)
    return seconds
