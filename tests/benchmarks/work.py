"""Tasks that occupy a worker: without using the CPU, with a command, or with work that has a length."""

from __future__ import annotations

from typing import Any


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


def command(_: Any) -> int:
    """Run a command that does nothing."""
    import subprocess

    return subprocess.run(["true"], check=True).returncode


def simulate(seconds: float) -> Any:
    """Compute for this long, and return an array of 1 MiB that begins with the argument."""
    import time

    import numpy as np

    end = time.perf_counter() + seconds
    array = np.zeros(131_072)
    while time.perf_counter() < end:
        pass
    array[0] = seconds
    return array


def chatter(text: str) -> int:
    """Print the text if there is one; return its length."""
    if text:
        print(text)
    return len(text)


try:
    from sklearn.base import BaseEstimator, ClassifierMixin
except ImportError:  # the case that needs it says so
    BaseEstimator = ClassifierMixin = object


class Estimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The nearest centroid of each class, and a fit that computes for so many seconds."""

    def __init__(self, seconds: float = 0.0, seed: int = 0) -> None:
        self.seconds, self.seed = seconds, seed

    def fit(self, data: Any, target: Any) -> Estimator:
        import time

        import numpy as np

        end = time.perf_counter() + self.seconds
        self.classes_ = np.unique(target)
        self.centroids_ = np.array([data[target == each].mean(axis=0) for each in self.classes_])
        while time.perf_counter() < end:
            pass
        return self

    def predict(self, data: Any) -> Any:
        distances = ((data[:, None, :] - self.centroids_[None, :, :]) ** 2).sum(axis=2)
        return self.classes_[distances.argmin(axis=1)]
