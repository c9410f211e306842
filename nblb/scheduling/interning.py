"""One object for words that are equal: a decoded message brings its own copy of each, and a million may wait."""

from __future__ import annotations

from msgspec.structs import force_setattr

from nblb.protocol.messages import SubmitTask

MOST = 4096  # that are known; they are few unless somebody makes them up


class Interning:
    """Those that were met lately."""

    def __init__(self) -> None:
        self._known: dict[object, object] = {}
        self._alone: dict[str, tuple[str]] = {}

    def share(self, spec: SubmitTask) -> None:
        """Let the task's words be those of the tasks that are like it; their values stay what they are."""
        known = self._known
        if len(known) > MOST:
            known.clear()
        name, function, user, python, origin, job = (
            spec.name, spec.function, spec.user, spec.python, spec.origin, spec.job,
        )  # fmt: skip
        if (same := known.setdefault(name, name)) is not name:
            force_setattr(spec, "name", same)
        if (same := known.setdefault(function, function)) is not function:
            force_setattr(spec, "function", same)
        if (same := known.setdefault(user, user)) is not user:
            force_setattr(spec, "user", same)
        if (same := known.setdefault(python, python)) is not python:
            force_setattr(spec, "python", same)
        if origin and (same := known.setdefault(origin, origin)) is not origin:
            force_setattr(spec, "origin", same)
        if job and (same := known.setdefault(job, job)) is not job:
            force_setattr(spec, "job", same)

    def alone(self, word: str) -> tuple[str]:
        """The word in a tuple, the same for all who ask."""
        found = self._alone.get(word)
        if found is None:
            if len(self._alone) > MOST:
                self._alone.clear()
            found = self._alone[word] = (word,)
        return found
