"""The poller: one round of questions a second for all browsers of a Monitor, however many there are.

Only the poller's thread sends questions to the core. A page looks at the latest ClusterPicture and names the questions
whose answers it shows; two pages with the same question cost one. While no page is open, the poller sends nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nblb.monitoring.access import Viewer
    from nblb.monitoring.dashboard import DashboardState
    from nblb.monitoring.login.gate import LoginGate

__all__ = ["ClusterPicture", "Poller", "Question", "Source"]

EVERY_S = 1.0
IDLE_AFTER_S = 10.0  # after this long without a page, the poller sleeps until there is one
ASKED_FOR_S = 5.0  # a question that no page has named for so long is not asked any more
MOST_QUESTIONS = 200  # of all pages; a further one waits until others have expired
MOST_STEPS = 20  # of a search of the core in one round (broker/task_list.py)


@dataclass(frozen=True)
class Question:
    """A topic of the core's answers, with its details as JSON text, so that equal questions are equal."""

    topic: str
    about: str = "{}"

    @classmethod
    def of(cls, topic: str, **about: Any) -> Question:
        return cls(topic, json.dumps({key: value for key, value in about.items() if value}, sort_keys=True))


STATUS = Question("status")


class Source(Protocol):
    """The interface of a cluster for the Monitor."""

    def ask(self, topic: str, about: dict[str, Any] | None = None) -> Any: ...

    def order(self, message: Any) -> Any:
        """Send a request that changes something, and return the core's answer."""

    def order_for(self, message: Any, name: str, role: str) -> Any:
        """Send it for somebody else, for whom the core allows no more than a key of this name and role may."""


@dataclass(frozen=True)
class ClusterPicture:
    """The state of the cluster at one time: an answer for each question, its age and the last error."""

    number: int = 0  # raised with every change, so that a page knows if it has shown this one
    taken_at: float = 0.0  # on the poller's clock; 0: never
    answers: Mapping[Question, Any] = field(default_factory=dict)
    errors: Mapping[Question, str] = field(default_factory=dict)  # why single questions have no answer
    error: str = ""  # a sentence: why there is no newer picture
    ask_ms: float = 0.0  # the time of one question to the core and back, in this round

    def get(self, question: Question) -> Any:
        """Return the answer; None if there is none yet."""
        return self.answers.get(question)

    @property
    def status(self) -> Mapping[str, Any]:
        return self.answers.get(STATUS) or {}


class Poller:
    """Keeps the latest picture of a cluster, and reconnects when the core returns."""

    def __init__(
        self,
        connect: Callable[[], Source],
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        log_folder: Path | None = None,
    ) -> None:
        self.every_s = every_s
        self.dashboard: DashboardState | None = None  # of a server with the control panel
        self.gate: LoginGate | None = None  # of a server of our own
        self.log_folder = log_folder  # of the cluster's processes on this computer
        self._connect = connect
        self._clock = clock
        self._source: Source | None = None
        self._picture = ClusterPicture()
        self._wanted: dict[Question, float] = {}  # question -> when a page has named it last
        self._looked_at = clock()
        self._looked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nblb-monitor-poller", daemon=True)
        self._started = False
        self._lock = threading.Lock()
        self._once = threading.Lock()  # of the three for programs
        self._once_source: Source | None = None
        self._once_answers: dict[Question, tuple[float, Any]] = {}

    def read(self, *questions: Question) -> ClusterPicture:
        """Return the latest picture without waiting; these questions are asked from now on, new ones at once."""
        with self._lock:
            if not self._started:
                self._started = True
                self._thread.start()
            self._looked_at = now = self._clock()
            for question in questions:
                if question not in self._wanted:
                    if len(self._wanted) >= MOST_QUESTIONS:
                        continue
                    self._looked.set()
                self._wanted[question] = now
        if self._picture.taken_at == 0.0:
            self._looked.set()
        return self._picture

    def ask_once(self, question: Question) -> Any:
        """Return the answer to a program's question, which is at most one round old.

        It has a line of its own, so that programs with many questions make no page wait.

        Raises
        ------
        NblbError
            The core refuses the question, or (as a ConnectionError, too) does not answer.
        """
        with self._once:
            asked_at, answer = self._once_answers.get(question, (float("-inf"), None))
            if self._clock() - asked_at < self.every_s:
                return answer
            self._once_answers.pop(question, None)
            try:
                answer = self._asked_over_own_line(question)
            except ConnectionError:  # the line may be of a core that has ended since: a new one decides
                answer = self._asked_over_own_line(question)
            while len(self._once_answers) >= MOST_QUESTIONS:
                del self._once_answers[next(iter(self._once_answers))]
            self._once_answers[question] = self._clock(), answer
            return answer

    def _asked_over_own_line(self, question: Question) -> Any:
        try:
            if self._once_source is None:
                self._once_source = self._connect()
            return self._ask(self._once_source, question)
        except ConnectionError:
            source, self._once_source = self._once_source, None
            _close(source)
            raise

    def ask_now(self) -> None:
        """Begin the next round at once: something was changed."""
        self._looked.set()

    def age_s(self, picture: ClusterPicture) -> float:
        return self._clock() - picture.taken_at if picture.taken_at else float("inf")

    def order(self, message: Any, viewer: Viewer) -> Any:
        """Send a request from a thread of the caller, on a connection of its own, and begin the next round."""
        source = self._connect()
        try:
            if viewer.is_owner:
                return source.order(message)
            return source.order_for(message, viewer.name, viewer.role)
        finally:
            _close(source)
            self.ask_now()

    def stop(self) -> None:
        self._stopping.set()
        self._looked.set()
        if self._started:
            self._thread.join(timeout=5)
        self._leave()
        with self._once:
            source, self._once_source = self._once_source, None
        _close(source)

    def poll(self) -> None:
        """Ask one round; any error becomes part of the picture, because the page must go on."""
        now = self._clock()
        with self._lock:
            self._wanted = {q: at for q, at in self._wanted.items() if now - at <= ASKED_FOR_S}
            questions = [STATUS, *(question for question in self._wanted if question != STATUS)]
        answers: dict[Question, Any] = {}
        errors: dict[Question, str] = {}
        try:
            if self._source is None:
                self._source = self._connect()
            for question in questions:
                try:
                    answers[question] = self._ask(self._source, question)
                except Exception as error:
                    if question == STATUS or _is_away(error):
                        raise
                    errors[question] = str(error)
        except Exception as error:
            self._leave()
            sentence = str(error).strip() or type(error).__name__
            if sentence != self._picture.error:
                self._picture = replace(self._picture, number=self._picture.number + 1, error=sentence)
            return
        ended = self._clock()
        ask_ms = 1000.0 * (ended - now) / len(questions)
        self._picture = ClusterPicture(self._picture.number + 1, ended, answers, errors, "", ask_ms)

    def _ask(self, source: Source, question: Question) -> Any:
        """Ask; a search that the core does in steps is asked again until it has an answer."""
        about = json.loads(question.about)
        answer = source.ask(question.topic, about)
        for _ in range(MOST_STEPS):
            if question.topic != "page" or not isinstance(answer, dict) or answer.get("searched", 1.0) >= 1.0:
                break
            answer = source.ask(question.topic, about)
        return answer

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._looked.clear()
            if self._clock() - self._looked_at > IDLE_AFTER_S:
                self._looked.wait()
                continue
            self.poll()
            self._looked.wait(self.every_s)

    def _leave(self) -> None:
        source, self._source = self._source, None
        _close(source)


def _is_away(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def _close(source: Source | None) -> None:
    close = getattr(source, "close", None)
    if callable(close):
        try:
            close()
        except Exception:  # it is closed already
            pass
