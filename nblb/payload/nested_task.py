"""A task inside another task: the form of `@lb.task` functions in a worker.

A function that was pickled with a task among its globals finds a NestedTask in its place. A call of it calls the
function; its first use of `submit`, `map` and other attributes loads nblb.client in the worker.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


class NestedTask:
    """A function and the options of its task."""

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
        if name.startswith("__"):  # pickle, copy and inspect ask for such names
            raise AttributeError(name)
        return getattr(self._task(), name)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind the task as a method to an object, as the function would be bound."""
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
