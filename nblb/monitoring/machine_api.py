"""What the Monitor's server answers to programs: /metrics, /health, /ready, and a read-only JSON API under /api/.

A handler asks the core in a thread and on a line of its own, at most once a second for the same question. Nothing here
changes anything. The gate in front of it (login/gate.py) asks for a login for all but /health and /ready.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tornado.web import HTTPError, RequestHandler

from nblb._version import __version__
from nblb.errors import NblbError
from nblb.monitoring import metrics
from nblb.monitoring.poller import Poller, Question

_threads = ThreadPoolExecutor(4, "nblb-monitor-api")

TEXT: dict[str, Any] = {"type": "string"}
WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 10**9}
SECONDS: dict[str, Any] = {"type": "number", "minimum": 1, "maximum": 604800}
NAMED: dict[str, Any] = {"type": "string", "minLength": 1}
LIST: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
TABLE: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "object"}}
SORTS = ("submitted", "ended", "duration", "name", "user", "state", "priority", "progress", "attempt", "host", "worker")
METHODS = "GET, HEAD"


def _object(*required: str) -> dict[str, Any]:
    return {"type": "object", "required": list(required)}


class Resource(NamedTuple):
    """One name under /api/: what it answers, from which topic of the core, with which parameters."""

    summary: str
    topic: str
    answer: dict[str, Any]  # its schema
    parameters: dict[str, dict[str, Any]] = {}  # by name, as schemas; they are passed on to the core
    required: tuple[str, ...] = ()


RESOURCES: dict[str, Resource] = {
    "status": Resource("The core: name, version, addresses, counts.", "status", _object("name", "counts", "workers")),
    "hubs": Resource("The hubs with their groups of workers.", "hubs", LIST),
    "workers": Resource("The workers and what each does.", "workers", LIST),
    "users": Resource("The users: share, queue, use.", "users", LIST),
    "queue": Resource("What waits, by user, priority and task name.", "queue", _object("by_user", "by_priority")),
    "turns": Resource("Whose turn is next in each band of priorities, and why.", "turns", LIST),
    "jobs": Resource("The latest jobs.", "jobs", LIST, {"user": TEXT, "name": TEXT, "limit": WHOLE}),
    "job": Resource("One job, by its id, or by its name and user.", "job", _object("job", "name", "counts"),
                    {"job": TEXT, "user": TEXT, "name": TEXT}),
    "failures": Resource("The failures of a job in groups.", "failures", LIST, {"job": TEXT}),
    "tasks": Resource(
        "A page of the list of calls.",
        "page",
        _object("rows", "total"),
        {
            "user": TEXT, "name": TEXT, "job": TEXT, "state": TEXT, "search": TEXT,
            "sort": {**TEXT, "enum": ["", *SORTS]}, "descending": {"type": "boolean"},
            "offset": WHOLE, "limit": {**WHOLE, "maximum": 200},
        },
    ),
    "task": Resource("One call with its story, output and error.", "task", _object("task", "state", "story"),
                     {"task": NAMED, "first": WHOLE}, ("task",)),
    "statistics": Resource("Times and numbers by task name.", "stats", TABLE),
    "percentiles": Resource("Percentiles of times by task name.", "percentiles", TABLE),
    "timeline": Resource("Who ran what where.", "timeline", _object("now", "seconds", "rows"),
                         {"seconds": SECONDS, "user": TEXT, "name": TEXT, "limit": WHOLE}),
    "history": Resource("The history in coarse bins.", "history", _object("now", "seconds", "bins"),
                        {"seconds": SECONDS}),
}  # fmt: skip


def patterns(poller: Poller, prefix: str) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes of the server, which puts `prefix` in front of them as of its pages."""
    given = {"poller": poller}
    return [
        ("/metrics", MetricsHandler, given),
        ("/health", HealthHandler, given),
        ("/ready", ReadyHandler, given),
        ("/api/openapi.json", SchemaHandler, {**given, "prefix": prefix}),
        ("/api/?(.*)", ApiHandler, given),
    ]


class MachineHandler(RequestHandler):
    """The base of the handlers: answers of the core as JSON."""

    def initialize(self, poller: Poller, prefix: str = "") -> None:
        self.poller, self.prefix = poller, prefix

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")

    def check_xsrf_cookie(self) -> None:
        """Nothing here changes anything."""

    async def head(self, *words: str) -> None:
        """Answer as `get`, of which the server leaves out the body."""
        found = self.get(*words)
        if found is not None:
            await found

    def write_error(self, status_code: int, **_options: Any) -> None:
        """Answer an error as the other errors of the API are answered."""
        if status_code == 405:
            self.set_header("Allow", METHODS)
        self.answer({"error": f"{self._reason}: {self.request.method} {self.request.path}"[:300]}, status_code)

    def answer(self, value: Any, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(value, default=str))

    async def asked(self, *questions: Question) -> dict[Question, Any]:
        """Return the answers; raises what the poller raises."""
        ask = asyncio.get_running_loop().run_in_executor
        return {question: await ask(_threads, self.poller.ask_once, question) for question in questions}


class MetricsHandler(MachineHandler):
    """/metrics for Prometheus."""

    async def get(self) -> None:
        topics = ("status", "users", "hubs", "stats")
        try:
            found = await self.asked(*map(Question, topics))
        except NblbError:  # the figure nblb_up says so
            found = {}
        self.set_header("Content-Type", metrics.CONTENT_TYPE)
        self.finish(metrics.exposition({question.topic: value for question, value in found.items()}))


class HealthHandler(MachineHandler):
    """/health: 200 while this server runs, whatever the core does."""

    def get(self) -> None:
        self.answer({"ok": True, "version": __version__})


class ReadyHandler(MachineHandler):
    """/ready: 200 when work can be done, 503 with the reason otherwise."""

    async def get(self) -> None:
        try:
            found = await self.asked(Question("status"))
        except NblbError as error:
            self.answer({"ready": False, "reason": str(error) if self._is_known() else "the core does not answer"}, 503)
            return
        workers = int(found[Question("status")].get("workers") or 0)
        if not workers:
            self.answer({"ready": False, "reason": "LB HAS NO WORKERS"}, 503)
            return
        self.answer({"ready": True, "workers": workers})

    def _is_known(self) -> bool:
        return getattr(self.request, "nblb_viewer", None) is not None


class ApiHandler(MachineHandler):
    """/api/NAME: one of RESOURCES as JSON."""

    async def get(self, name: str) -> None:
        if not name:
            self.answer({"resources": sorted(RESOURCES), "schema": "openapi.json"})
            return
        if name not in RESOURCES:
            self.answer({"error": f"there is no resource {name!r}; there are {', '.join(sorted(RESOURCES))}"}, 404)
            return
        resource = RESOURCES[name]
        topic, allowed = resource.topic, resource.parameters
        try:
            about = {
                key: parsed(key, self.get_query_argument(key, strip=False), allowed)
                for key in self.request.query_arguments
            }
            if missing := [key for key in resource.required if not about.get(key)]:
                raise ValueError(f"{missing[0]} is missing")
        except (ValueError, HTTPError) as error:
            self.answer({"error": str(error)[:300]}, 400)
            return
        question = Question.of(topic, **about)
        try:
            found = await self.asked(question)
        except NblbError as error:
            self.answer({"error": str(error)}, 503 if isinstance(error, ConnectionError) else 400)
            return
        if found[question] is None:
            self.answer({"error": f"there is no such {name}"}, 404)
            return
        self.answer(found[question])


def parsed(key: str, value: str, allowed: dict[str, dict[str, Any]]) -> Any:
    """Return a parameter's value by its schema.

    Raises
    ------
    ValueError
        It is not a parameter of this resource, or not a value of its type; the message says so.
    """
    if key not in allowed:
        raise ValueError(f"{key!r} is not a parameter; there are {', '.join(allowed) or 'none'}")
    kind = allowed[key]["type"]
    if kind == "string":
        if value not in allowed[key].get("enum", [value]):
            raise ValueError(
                f"{key} is {value[:40]!r}; it must be one of {', '.join(filter(None, allowed[key]['enum']))}"
            )
        return value[:500]
    if kind == "boolean":
        if value not in ("true", "false"):
            raise ValueError(f"{key} is {value!r}; it must be true or false")
        return value == "true"
    try:
        number = float(value) if kind == "number" else int(value)
    except ValueError:
        raise ValueError(f"{key} is {value!r}; it must be a number") from None
    low, high = allowed[key].get("minimum", 0), allowed[key].get("maximum", 10**9)
    if not low <= number <= high:
        raise ValueError(f"{key} is {value}; it must be from {low} to {high}")
    return number


class SchemaHandler(MachineHandler):
    """/api/openapi.json: the description of the API."""

    def get(self) -> None:
        self.answer(schema(self.prefix))


def schema(prefix: str = "") -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the server's answers for machines."""
    error = {"content": _content({"$ref": "#/components/schemas/Error"})}
    login = {"401": {"description": "A login is missing.", **error}}
    paths: dict[str, Any] = {}
    for name, resource in RESOURCES.items():
        paths[f"/api/{name}"] = {
            "get": {
                "summary": resource.summary,
                "operationId": name,
                "parameters": [
                    {"name": key, "in": "query", "schema": kind, "required": key in resource.required}
                    for key, kind in resource.parameters.items()
                ],
                "responses": {
                    "200": {"description": "The answer.", "content": _content(resource.answer)},
                    "400": {"description": "A wrong parameter.", **error},
                    **login,
                    "404": {"description": "There is no such thing.", **error},
                    "503": {"description": "The core does not answer.", **error},
                },
            }
        }
    health, ready = _object("ok", "version"), _object("ready")
    paths["/health"] = _public("health", "200 while this server runs.", {"200": health})
    paths["/ready"] = _public("ready", "200 when work can be done, else 503.", {"200": ready, "503": ready})
    text = {"content": {metrics.CONTENT_TYPE: {"schema": TEXT}}}
    paths["/metrics"] = {"get": {"summary": "Figures for Prometheus.", "operationId": "metrics", "responses": {
        "200": {"description": "Prometheus's text format.", **text}, **login}}}  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "nblb Monitor", "version": __version__, "description": "Read-only; nothing here acts."},
        "servers": [{"url": prefix or "/"}],
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": {"Error": {"type": "object", "properties": {"error": TEXT}, "required": ["error"]}},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"},
                                "basic": {"type": "http", "scheme": "basic"}},
        },
    }  # fmt: skip


def _content(kind: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": kind}}


def _public(name: str, summary: str, answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the description of an address that needs no login."""
    responses = {status: {"description": summary, "content": _content(kind)} for status, kind in answers.items()}
    return {"get": {"summary": summary, "operationId": name, "security": [], "responses": responses}}
