"""Tasks that occupy a worker without using the CPU."""

from __future__ import annotations


def wait_for(gate: str, name: str) -> None:
    """Report the start in a file beside the gate, and end when the gate exists."""
    import time
    from pathlib import Path

    path = Path(gate)
    path.with_name(f"begun-{name}").touch()
    while path.parent.exists() and not path.exists():
        time.sleep(0.01)


def nap(seconds: float) -> float:
    """Sleep for this long, however busy the machine is."""
    import time

    time.sleep(seconds)
    return seconds
