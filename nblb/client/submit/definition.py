"""A task's definition: a function with the options of its calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from nblb.client.submit.function_cache import name_of
from nblb.client.submit.submit import Options


class TaskDefinition:
    """A function with options for running it on a cluster; `lb.task` makes a Task, which can also submit it."""

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        if not callable(function):
            raise TypeError(f"a task is made of a function, but this is {function!r}")
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__} is async; make a task of a plain function that calls asyncio.run")
        self.function = function
        self._options = options
        self._name = options.name or name_of(function)
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        """The name that people see: the one given, or else the function's."""
        return self._name
