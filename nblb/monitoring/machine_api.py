"""What the Monitor's server answers to programs: /metrics, /health, /ready, and a read-only JSON API under /api/.

A handler asks the core in a thread, at most once a second for the same question. Nothing here changes anything. With
MONITOR_AUTH, all but /health and /ready need the password: as a Bearer token, as Basic authorization, or as the login
of the page.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tornado.web import RequestHandler

from nblb._version import __version__
from nblb.monitoring import metrics
from nblb.monitoring.poller import Poller, Question

FIRST_ANSWER_S = 10.0
LOOK_S = 0.02
_threads = ThreadPoolExecutor(4, "nblb-monitor-api")

TEXT: dict[str, Any] = {"type": "string"}
WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
SECONDS: dict[str, Any] = {"type": "number", "minimum": 1, "maximum": 604800}
#: name -> (what it answers, topic of the core, {parameter: schema}); a parameter is passed on to the core
RESOURCES: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "status": ("The core: name, version, addresses, counts.", "status", {}),
    "hubs": ("The hubs with their groups of workers.", "hubs", {}),
    "workers": ("The workers and what each does.", "workers", {}),
    "users": ("The users: share, queue, use.", "users", {}),
    "queue": ("What waits, by user, priority and task name.", "queue", {}),
    "turns": ("Whose turn is next in each band of priorities, and why.", "turns", {}),
    "jobs": ("The latest jobs.", "jobs", {"user": TEXT, "name": TEXT, "limit": WHOLE}),
    "job": ("One job.", "job", {"job": TEXT, "user": TEXT, "name": TEXT}),
    "failures": ("The failures of a job in groups.", "failures", {"job": TEXT}),
    "tasks": (
        "A page of the list of calls.",
        "page",
        {
            "user": TEXT, "name": TEXT, "job": TEXT, "state": TEXT, "search": TEXT, "sort": TEXT,
            "descending": {"type": "boolean"}, "offset": WHOLE, "limit": {**WHOLE, "maximum": 200},
        },
    ),
    "task": ("One call with its story, output and error.", "task", {"task": TEXT, "first": WHOLE}),
    "statistics": ("Times and numbers by task name.", "stats", {}),
    "percentiles": ("Percentiles of times by task name.", "percentiles", {}),
    "timeline": ("Who ran what where.", "timeline", {"seconds": SECONDS, "user": TEXT, "name": TEXT, "limit": WHOLE}),
    "history": ("The history in coarse bins.", "history", {"seconds": SECONDS}),
}  # fmt: skip


def patterns(poller: Poller, password: str, prefix: str, login: bool = False) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes of the server, which puts `prefix` in front of them as of its pages."""
    before = f"/{prefix}" if prefix else ""
    given = {"poller": poller, "password": password, "login": login}
    return [
        ("/metrics", MetricsHandler, given),
        ("/health", HealthHandler, given),
        ("/ready", ReadyHandler, given),
        ("/api/openapi.json", SchemaHandler, {**given, "prefix": before}),
        ("/api/?(.*)", ApiHandler, given),
    ]


class MachineHandler(RequestHandler):
    """The base of the handlers: the login, and answers of the core."""

    def initialize(self, poller: Poller, password: str, login: bool = False, prefix: str = "") -> None:
        self.poller, self.password, self.login, self.prefix = poller, password, login, prefix

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def allowed(self) -> bool:
        """Return whether the request has the password, if there is one; answer it otherwise."""
        if not (self.password or self.login) or self._has_password():
            return True
        self.set_header("WWW-Authenticate", 'Basic realm="nblb Monitor", charset="UTF-8"')
        self.answer({"error": "MONITOR_AUTH is set: send it as a Bearer token or as the password of Basic."}, 401)
        return False

    def _has_password(self) -> bool:
        kind, _, given = self.request.headers.get("Authorization", "").partition(" ")
        if not self.password:  # the pages have a login of their own
            return self.get_signed_cookie("user") is not None
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                return False
        elif kind.lower() != "bearer":
            return self.get_signed_cookie("user") is not None
        return hmac.compare_digest(given.encode(), self.password.encode())

    def answer(self, value: Any, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(value, default=str))

    async def asked(self, *questions: Question) -> dict[Question, Any] | str:
        """Return the answers, or why there are none."""
        return await asyncio.get_running_loop().run_in_executor(_threads, answers, self.poller, questions)


def answers(poller: Poller, questions: tuple[Question, ...]) -> dict[Question, Any] | str:
    """Wait for the answers to these questions that the shared poller gets; or return why there are none."""
    import time

    until = time.monotonic() + FIRST_ANSWER_S
    while True:
        picture = poller.look(*questions)
        if picture.error:
            return picture.error
        failed = next((picture.errors[question] for question in questions if question in picture.errors), "")
        if failed:
            return failed
        if all(question in picture.answers for question in questions) and poller.age_s(picture) < 3 * poller.every_s:
            return {question: picture.answers[question] for question in questions}
        if time.monotonic() > until:
            return "the core does not answer"
        time.sleep(LOOK_S)


class MetricsHandler(MachineHandler):
    """/metrics for Prometheus."""

    async def get(self) -> None:
        if not self.allowed():
            return
        topics = ("status", "users", "hubs", "stats")
        found = await self.asked(*map(Question, topics))
        self.set_header("Content-Type", metrics.CONTENT_TYPE)
        known = {} if isinstance(found, str) else {question.topic: value for question, value in found.items()}
        self.finish(metrics.exposition(known))


class HealthHandler(MachineHandler):
    """/health: 200 while this server runs, whatever the core does."""

    def get(self) -> None:
        self.answer({"ok": True, "version": __version__})


class ReadyHandler(MachineHandler):
    """/ready: 200 when work can be done, 503 with the reason otherwise."""

    async def get(self) -> None:
        found = await self.asked(Question("status"))
        if isinstance(found, str):
            self.answer({"ready": False, "reason": found if not self.password else "the core does not answer"}, 503)
            return
        workers = int(found[Question("status")].get("workers") or 0)
        if not workers:
            self.answer({"ready": False, "reason": "LB HAS NO WORKERS"}, 503)
            return
        self.answer({"ready": True, "workers": workers})


class ApiHandler(MachineHandler):
    """/api/NAME: one of RESOURCES as JSON."""

    async def get(self, name: str) -> None:
        if not self.allowed():
            return
        if not name:
            self.answer({"resources": sorted(RESOURCES), "schema": "openapi.json"})
            return
        if name not in RESOURCES:
            self.answer({"error": f"there is no resource {name!r}; there are {', '.join(sorted(RESOURCES))}"}, 404)
            return
        _, topic, allowed = RESOURCES[name]
        try:
            about = {key: parsed(key, self.get_query_argument(key), allowed) for key in self.request.query_arguments}
        except ValueError as error:
            self.answer({"error": str(error)}, 400)
            return
        question = Question.of(topic, **about)
        found = await self.asked(question)
        if isinstance(found, str):
            away = bool(self.poller.look().error)
            self.answer({"error": found}, 503 if away else 400)
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
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    paths: dict[str, Any] = {}
    for name, (summary, _, allowed) in RESOURCES.items():
        paths[f"/api/{name}"] = {
            "get": {
                "summary": summary,
                "operationId": name,
                "parameters": [{"name": key, "in": "query", "schema": kind} for key, kind in allowed.items()],
                "responses": {
                    "200": {"description": "The answer.", "content": {"application/json": {"schema": {}}}},
                    "400": {"description": "A wrong parameter.", **error},
                    "401": {"description": "The password is missing.", **error},
                    "404": {"description": "There is no such thing.", **error},
                    "503": {"description": "The core does not answer.", **error},
                },
            }
        }
    for name, summary in (("health", "200 while this server runs."), ("ready", "200 when work can be done, else 503.")):
        paths[f"/{name}"] = {"get": {"summary": summary, "operationId": name, "security": [],
                                     "responses": {"200": {"description": summary}}}}  # fmt: skip
    paths["/metrics"] = {"get": {"summary": "Figures for Prometheus.", "operationId": "metrics",
                                 "responses": {"200": {"description": "Prometheus's text format."}}}}  # fmt: skip
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
