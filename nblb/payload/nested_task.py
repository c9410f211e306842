"""A task inside another task: what `@lb.task` functions are in a worker.

A function that was pickled with a task among its globals finds this in its place. Called, it is the function; `submit`,
`map` and all else come with nblb.client, which a worker loads when a task first asks for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


class NestedTask:
    """A function and the options of the task that it was made."""

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.function = function
        self._given = options
        self._made: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def _task(self) -> Any:
        if self._made is None:
            self._made = import_module("nblb.client.task_decorator").task(self.function, **self._given)
        return self._made

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":
            return self.function
        if name in functools.WRAPPER_ASSIGNMENTS:
            return getattr(self.function, name)
        if name.startswith("__"):  # what pickle, copy and inspect look for
            raise AttributeError(name)
        return getattr(self._task(), name)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: bound when called through an object, as the function would be."""
        if instance is None:
            return self
        return NestedTask(functools.partial(self.function, instance), {"name": self.function.__name__, **self._given})

    def __reduce__(self) -> tuple[Any, ...]:
        return NestedTask, (self.function, self._given)

    @property
    def __nblb_function__(self) -> Callable[..., Any]:
        return self.function

    def __repr__(self) -> str:
        return f"<Task {getattr(self.function, '__name__', self.function)!s}>"
