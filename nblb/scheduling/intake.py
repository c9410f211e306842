"""Handles requests of clients: submit, fetch, collect and retry tasks; open jobs; send blobs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import isfinite

import msgspec

from nblb.protocol import equipment
from nblb.protocol.commands import Record
from nblb.protocol.foreign_names import with_clean_names
from nblb.protocol.framing import pieces
from nblb.protocol.journal_entries import AttemptFailed, BlobKept, JobKept, Published, TaskKept
from nblb.protocol.messages import (
    ENDED,
    Answer,
    BlobMissing,
    CollectTask,
    FetchTask,
    JobNamed,
    OpenJob,
    Publish,
    PutBlob,
    RetryFailed,
    RunTask,
    SubmitTask,
    TaskAccepted,
    TaskRejected,
    TaskReopened,
    TaskState,
)
from nblb.scheduling import dependencies
from nblb.scheduling.long_tasks import checkpoints
from nblb.scheduling.long_tasks.failure_limit import ended_by_limit
from nblb.scheduling.nesting import parents
from nblb.scheduling.reporting import compatible, quotas
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import Blob, ConnectedClient, State
from nblb.scheduling.steering import Steering
from nblb.scheduling.submission import Interning, Submission, SubmittedJob

MAX_PARKED = 100_000
EPOCH = 2**32  # more than one core reopens
MAX_ITEMS = 2**31 - 1
MOST_FACTOR = 100.0  # of memory_retry
LONGEST_WAIT_S = 1e9  # before a retry, or a deadline


class Intake:
    """Handles the client messages that submit, fetch, collect and retry tasks."""

    def __init__(self, state: State, steering: Steering) -> None:
        self.state = state
        self.steering = steering
        self._words = Interning()

    # ── blobs and jobs ──

    def put_blob(self, _client: ConnectedClient, message: PutBlob, now: float) -> None:
        state = self.state
        if checkpoints.is_checkpoint(message.hash):  # the journal gives such a name another meaning
            return
        if message.hash not in state.blobs:
            state.blobs[message.hash] = Blob(message.payload, message.name, now)
            state.out.append(Record(BlobKept(message.hash, message.payload, message.name)))
        else:
            state.blobs[message.hash].used_at = now
        for address, spec in state.parked.pop(message.hash, ()):
            state.parked_on.pop(spec.task, None)
            waiting = state.clients.get(address)
            if waiting is not None:  # else it has received no acceptance, and submits again
                self.submit_task(waiting, spec, now)

    def blob_lost(self, name: str, reason: str) -> None:
        """Reject the submissions that wait for this blob, which cannot be read."""
        for address, spec in self.state.parked.pop(name, ()):
            self.state.parked_on.pop(spec.task, None)
            self.state.send(address, TaskRejected(task=spec.task, kind="TaskRejected", reason=reason))

    def blob_forged(self, sender: str, name: str, reason: str) -> None:
        """Reject the submissions of this sender that wait for the blob; those of others wait for the right bytes."""
        waiting = self.state.parked.pop(name, [])
        if others := [(address, spec) for address, spec in waiting if address != sender]:
            self.state.parked[name] = others
        for address, spec in waiting:
            if address == sender:
                self.state.parked_on.pop(spec.task, None)
                self.state.send(address, TaskRejected(task=spec.task, kind="TaskRejected", reason=reason))

    def open_job(self, client: ConnectedClient, message: OpenJob, now: float) -> SubmittedJob | None:
        """Open the job; return the job that has its name already, unless the request replaces that one."""
        state = self.state
        message = with_clean_names(message, "name", "user")
        job = state.jobs.get(message.job)
        if job is None and state.dropped.was_given_up(message.job):
            return None  # a late copy, or from a kernel that was disconnected while another dropped the job
        if job is None:
            user = message.user or client.user
            holder = state.job_names.get((user, message.name), "") if message.request else message.replaces
            if holder not in ("", message.replaces):
                return state.jobs[holder]
            name = self._free_name(user, message.name) if message.made else message.name
            job = SubmittedJob(msgspec.structs.replace(message, name=name, request=0, replaces=""), user, now)
            job.opened_by = client.address
            state.jobs[job.id] = job
            state.job_names[user, name] = job.id
            state.out.append(Record(JobKept(job.spec, user, state.wall(now))))
        if message.made and job.spec.name != message.name:
            state.send(client.address, JobNamed(job=job.id, name=job.spec.name))
        self.watch_job(client, job)
        return None

    def _free_name(self, user: str, name: str) -> str:
        """Return the name, with a number appended if a job of the user has it already."""
        names = self.state.job_names
        if (user, name) not in names:
            return name
        stem, _, digits = name.rpartition("-")
        if not stem or not digits.isdecimal():
            stem, digits = name, "1"
        return next(f"{stem}-{n}" for n in count(int(digits) + 1) if (user, f"{stem}-{n}") not in names)

    def watch_job(self, client: ConnectedClient, job: SubmittedJob) -> None:
        if client.address not in job.watchers:
            job.watchers = self.state.watched_by(job.watchers, client.address)

    def publish(self, client: ConnectedClient, message: Publish, _now: float) -> None:
        state = self.state
        message = with_clean_names(message, "name")
        if message.hash and message.hash not in state.blobs:
            state.send(client.address, BlobMissing(hash=message.hash))
            return
        if message.hash:
            state.published[message.name] = message.hash
        else:
            state.published.pop(message.name, None)
        state.out.append(Record(Published(message.name, message.hash)))

    # ── tasks in ──

    def submit_task(self, client: ConnectedClient, spec: SubmitTask, now: float) -> None:
        """Accept, reject, or park the submission until the blob that it names arrives."""
        state = self.state
        spec = with_clean_names(spec, "name", "user")
        known = state.records.get(spec.task)
        if known is not None:
            self._again(client, known, spec)
            return
        if spec.task in state.dropped:
            kind, _ = state.dropped.answer(spec.task)
            reason = f"task {spec.name} was submitted, ended and dropped before this copy of its submission arrived"
            state.send(client.address, TaskRejected(task=spec.task, kind=kind, reason=reason))
            return
        spec = self._completed(client, spec)
        refusal = self._malformed(spec)
        missing = self._missing_blob(spec) if refusal is None else ""
        if missing and len(state.parked_on) < MAX_PARKED:
            state.send(client.address, BlobMissing(hash=missing))
            if spec.task not in state.parked_on:
                state.parked.setdefault(missing, []).append((client.address, spec))
                state.parked_on[spec.task] = missing
            return
        if missing:
            refusal = "TaskRejected", f"task {spec.name} needs blob {missing}, and too many tasks wait for blobs"
        refusal = refusal or self._incompatible(spec, now) or self._refusal(spec)
        if refusal is None and state.share.of_user:
            refusal = quotas.refusal(state, spec, now)
        if refusal is None:
            self.accept(spec, client.address, now)
            return
        kind, reason = refusal
        state.send(client.address, TaskRejected(task=spec.task, kind=kind, reason=reason))

    def _again(self, client: ConnectedClient, record: Submission, spec: SubmitTask) -> None:
        """Handle a submission with a known id: its acknowledgement was lost, or its client reconnected."""
        if client.address not in record.watchers:
            record.watchers = self.state.watched_by(record.watchers, client.address)
        accepted = TaskAccepted(task=record.id)
        if spec.items > record.items:  # an earlier version accepted only the part that fitted
            reason = f"there was no room for the last {spec.items - record.items} of {spec.items} tasks {spec.name}"
            accepted = TaskAccepted(task=record.id, items=record.items, reason=reason)
        self.state.send(client.address, accepted)
        self._send_ends(client, record)

    def _completed(self, client: ConnectedClient, spec: SubmitTask) -> SubmitTask:
        """Return the submission with its user, and with the function that a published name stands for."""
        user = spec.user or client.user
        function = spec.function or self.state.published.get(spec.name, "")
        if spec.parent:
            spec = parents.completed(self.state, spec)
            user = spec.user or user
        if user == spec.user and function == spec.function:
            return spec
        return msgspec.structs.replace(spec, user=user, function=function)

    def _missing_blob(self, spec: SubmitTask) -> str:
        """Return the blob that the submission must wait for, its own or that of a parked dependency; "" if none."""
        blobs, parked = self.state.blobs, self.state.parked_on
        if spec.function and spec.function not in blobs:
            return spec.function
        for name in spec.constants:
            if name not in blobs:
                return name
        if not parked:
            return ""
        needed = (parked.get(name) or parked.get(name.rpartition(".")[0]) for name in spec.depends)
        return next(filter(None, needed), "")

    def _malformed(self, spec: SubmitTask) -> tuple[str, str] | None:
        if not isfinite(spec.priority):
            return "TaskRejected", f"the priority of task {spec.name} must be a finite number, not {spec.priority}"
        if spec.needs is not None and (wrong := equipment.refusal(spec.needs)):
            return "TaskRejected", f"the needs of task {spec.name} are wrong: {wrong}"
        if not (isfinite(spec.memory_retry) and 0 <= spec.memory_retry <= MOST_FACTOR):
            return "TaskRejected", f"memory_retry of task {spec.name} must be a factor, not {spec.memory_retry}"
        for name, seconds in (("retry_wait", spec.retry_wait_s), ("deadline", spec.deadline_s)):
            if not 0.0 <= seconds <= LONGEST_WAIT_S:
                return "TaskRejected", f"{name} of task {spec.name} must be 0 to {LONGEST_WAIT_S:g} seconds"
        if not isfinite(spec.deadline_at):
            return "TaskRejected", f"deadline of task {spec.name} must be a time, not {spec.deadline_at}"
        if not 1 <= spec.items <= MAX_ITEMS or (
            spec.split and len(spec.payload.sizes) not in (spec.items, pieces(spec.items))
        ):
            return "TaskRejected", f"task {spec.name} declares {spec.items} items, but its payload has another number"
        return None

    def _incompatible(self, spec: SubmitTask, now: float) -> tuple[str, str] | None:
        """Return the refusal of a task whose Python, or NumPy, no hub of this core has ever had."""
        state = self.state
        python = spec.python != (0, 0)
        if not spec.function or not (python or spec.numpy) or not state.hubs:
            return None
        fitting = [numpy for version, numpy in state.versions if not python or version == spec.python]
        if any(numpy >= spec.numpy for numpy in fitting):
            return None
        if now < state.judges_from or (spec.cache and spec.cache in state.cache):
            return None
        if fitting:
            return "NoCompatibleHub", f"no hub can run {spec.name}: {compatible.lacks_numpy(state, spec)}"
        has = sorted({f"{hub.name} has Python {'.'.join(map(str, hub.hello.python))}" for hub in state.hubs.values()})
        more = f" and {len(has) - 3} more" if len(has) > 3 else ""
        version = ".".join(map(str, spec.python))
        return "NoCompatibleHub", (
            f"no hub can run {spec.name}: it comes from Python {version}, and {', '.join(has[:3])}{more}; "
            f"start a hub with Python {version} (%lb_hub or 'nblb hub'), or submit from the Python of a hub"
        )

    def _refusal(self, spec: SubmitTask) -> tuple[str, str] | None:
        state = self.state
        if spec.parent and (over := parents.refusal(state, spec)):
            return "TaskRejected", over
        for name in spec.depends:
            if state.needed(name)[0] is None:
                kind, reason = state.dropped.answer(name)
                return kind, f"task {spec.name} needs the result of task {name}: {reason}"
        if spec.job:
            job = state.jobs.get(spec.job)
            if job is None:
                return "TaskRejected", f"task {spec.name} belongs to job {spec.job}, which the core does not know"
            if job.has_any(spec.index, spec.items):
                items = f"some of items {spec.index} to {spec.index + spec.items - 1}"
                text = f"another kernel has submitted {items} of job {job.spec.name}"
                return "TaskRejected", f"{text}; lb.attach({job.spec.name!r}) shows all of it"
        return None

    def accept(self, spec: SubmitTask, watcher: str, now: float) -> Submission:
        """Journal and acknowledge the submission, and queue it or block it on the results that it needs."""
        state = self.state
        state.accepted += 1
        self._words.share(spec)
        job = state.jobs.get(spec.job) if spec.job else None
        record = Submission(spec, spec.user, state.accepted, now, job)
        record.owner = owner = state.share.user(spec.user)
        record.stored = size = spec.payload.nbytes
        owner.stored += size
        record.watchers = self._words.alone(watcher) if watcher else ()
        if spec.parent:
            parents.tie(state, record)
        state.records[record.id] = record
        if job is not None:
            job.join(record)
        state.out.append(Record(TaskKept(spec, state.wall(now))))
        if watcher:
            state.send(watcher, TaskAccepted(task=record.id))
        self.begin(record, now)
        if job is not None and job.has_too_many_failures:
            state.over_limit[job] = None
        if spec.deadline_s or spec.deadline_at:
            state.with_deadline[record] = None
        return record

    def begin(self, record: Submission, now: float) -> None:
        """Count the blobs in use, register the dependencies, and queue what can run."""
        state = self.state
        for name in record.blobs:
            blob = state.blobs.get(name)
            if blob is not None:
                blob.uses += 1
                blob.used_at = now
                if not blob.user:
                    state.count_blob(blob, record.user)
        dependencies.pin(state, record)
        because = dependencies.obstacle(state, record)
        if because is None:
            state.enqueue(record.begin(TaskState.QUEUED, now))
        else:
            state.notice(record.begin(TaskState.BLOCKED, now), now)
            dependencies.block(state, record, because, now)

    # ── tasks out ──

    def fetch_task(self, client: ConnectedClient, message: FetchTask, now: float) -> None:
        """Send all ends again, and make the client a watcher."""
        state = self.state
        if message.job:
            job = state.jobs.get(message.job)
            records = list(job.records.values()) if job is not None else []
            if job is not None:
                self.watch_job(client, job)
                state.notice_job(job, now)
        else:
            record = state.records.get(message.task)
            records = [record] if record is not None else []
            if record is None:
                kind, reason = state.dropped.answer(message.task)
                state.send(client.address, TaskRejected(task=message.task, kind=kind, reason=reason))
        for record in records:
            if client.address not in record.watchers:
                record.watchers = state.watched_by(record.watchers, client.address)
            if message.first >= 0 and self._send_result(client, record, message.first, message.items):
                continue
            if message.first < 0 and not message.quiet:
                self._send_ends(client, record)
            if not message.quiet:
                self.steering.retell(client, record)
            for task in record.slices:
                if task.state not in ENDED:
                    state.notice(task, now)

    def _send_ends(self, client: ConnectedClient, record: Submission) -> None:
        told: set[int] = set()
        for task in record.slices:
            if task.ended is not None and id(task.ended) not in told:
                told.add(id(task.ended))
                self.state.send(client.address, task.ended)

    def _send_result(self, client: ConnectedClient, record: Submission, first: int, items: int) -> bool:
        """Send the result of exactly this range of items; return False if there is none."""
        for task in record.slices[record.position(first) :]:  # not always the first: it may have a hole here
            end = task.ended
            if end is not None and end.first == first and items in (0, end.items) and end.payload is not None:
                self.state.send(client.address, end)
                return True
        return False

    def collect_task(self, _client: ConnectedClient, message: CollectTask, now: float) -> None:
        """Shorten the retention of a collected single task; the result of a job keeps its own."""
        for task in message.tasks or (message.task,):
            record = self.state.records.get(task)
            if record is not None and not record.spec.job and record.unended == 0 and not record.spec.cache:
                self.state.expire_at(record, now + self.state.policy.result_ttl_s)

    # ── retry ──

    def retry_failed(self, client: ConnectedClient, message: RetryFailed, now: float) -> None:
        """Reopen what may be retried, in order of acceptance, so that dependents wait for what they need."""
        state = self.state
        if message.job:
            job = state.jobs.get(message.job)
            records = list(job.records.values()) if job is not None else []
        else:
            known = state.records.get(message.task)
            records = [known] if known is not None else []
        if message.function and message.function not in state.blobs:
            state.send(client.address, BlobMissing(hash=message.function))
            return  # the request is handled again when the blob has arrived
        error = self._cannot_run(records, message)
        if error:
            state.send(client.address, Answer(request=message.request, error=error, kind="TaskRejected"))
            return
        number = 0
        for record in records:
            first = record.spec.index if message.job else 0
            items = [n - first for n in message.items if 0 <= n - first < record.items]
            if items or not message.items:
                number += self._retry(client, record, items, message.function, now)
        state.send(client.address, Answer(request=message.request, value=number, committed=True))

    @staticmethod
    def _cannot_run(records: list[Submission], message: RetryFailed) -> str:
        """Return why the new function of the request cannot run these calls; "" if it can."""
        if not message.function:
            return ""
        for record in records:
            spec = record.spec
            if spec.call != "python" or not spec.function:
                return f"{spec.name} is a function that its hub provides by name: it cannot be replaced"
            if (0, 0) not in (spec.python, message.python) and spec.python != message.python:
                old, new = (".".join(map(str, version)) for version in (spec.python, message.python))
                return (
                    f"the arguments of {spec.name} were sent from Python {old}, the new function from Python {new}: "
                    f"retry it in a kernel of Python {old}"
                )
        return ""

    def _retry(
        self, client: ConnectedClient, record: Submission, items: Sequence[int], function: str, now: float
    ) -> int:
        """Run these items again, or all that have failed; return how many do."""
        state = self.state
        if record.forgotten or record.arguments_released:
            return 0
        again = _failed_slices(record, items)
        if not again:
            return 0
        if function:
            self._give_code(record, again, function, now)
        if record.closed:
            record.closed, record.ended_at, record.expires = False, 0.0, 0.0
            dependencies.pin(state, record)
        dependencies.untie(state, record)  # slices that ended while they were BLOCKED are still tied
        because = dependencies.obstacle(state, record)
        for task in again:
            state.changed.pop(task, None)
        again = [record.replace(task) for task in again]  # a line may contain one that ended while it waited there
        for task in again:
            state.tallies.uncount(task, state.wall_offset)
            entry = AttemptFailed(
                record.id,
                task.first,
                task.items,
                task.attempt,
                False,
                "again",
                again=True,
                function=task.code,
                at=state.wall(now),
            )
            state.out.append(Record(entry))
            task.attempt += 1  # distinguishes the next end from the void one
            task.tries, task.crashes, task.not_before, task.reason = 0, 0, 0.0, None
            task.ended, task.progress, task.note, task.queued_at = None, 0.0, "", now
            task.move("RetryFailed" if because is None else "RetryBlocked", now)
            if because is None:
                state.enqueue(task)
            state.notice(task, now)
        if record.spec.deadline_s or record.spec.deadline_at:
            state.with_deadline[record] = None
        state.weigh(record)
        self._send_reopened(client, record, again, function)
        if because is not None:
            dependencies.block(state, record, because, now)
        return sum(task.items for task in again)

    def _give_code(self, record: Submission, again: list[Slice], function: str, now: float) -> None:
        """Make these slices run this function from now on."""
        code = "" if function == record.spec.function else function
        for task in again:
            task.code = code
        if code and code not in record.codes:
            record.codes += (code,)
            blob = self.state.blobs[code]
            blob.uses += 1
            blob.used_at = now
            if not blob.user:
                self.state.count_blob(blob, record.user)

    def _send_reopened(self, client: ConnectedClient, record: Submission, again: list[Slice], function: str) -> None:
        """Tell all watchers that these items, which they know as ended, will end once more."""
        state = self.state
        if client.address not in record.watchers:
            record.watchers = state.watched_by(record.watchers, client.address)
        if record.job is not None:
            self.watch_job(client, record.job)
        state.reopened += 1
        message = TaskReopened(
            task=record.id,
            again=tuple((task.first, task.items) for task in again),
            items=record.items,
            job=record.spec.job,
            function=function,
            number=state.policy.epoch * EPOCH + state.reopened,
        )
        state.notify(record.watchers, message)


def _failed_slices(record: Submission, items: Sequence[int]) -> list[Slice]:
    """Return the slices to retry; with `items` only those of them, each as a slice of its own."""
    if not items:
        return [task for task in record.slices if _is_to_retry(task)]
    chosen = [item for item in dict.fromkeys(items) if _is_to_retry(record.at(item))]
    found = [record.carve(record.at(item), item, 1) for item in chosen]
    shared = {id(task.ended): task.ended for task in found if task.ended is not None and task.ended.items > 1}
    for ended in shared.values():
        record.narrow(ended, set(found))
    return found


def _is_to_retry(task: Slice) -> bool:
    return task.state in (TaskState.FAILED, TaskState.LOST) or ended_by_limit(task)


def run_task(task: Slice, record: Submission, group: int) -> RunTask:
    """Return the order for a slice that has just been assigned."""
    spec, items = record.spec, task.items
    if (
        record.items == 1
        and record.alone
        and spec.call == "python"
        and not (spec.timeout_s or spec.retry_on or record.checkpoints)
    ):
        return RunTask(  # nearly always; positional, since keyword arguments and defaults cost time
            record.id,
            task.attempt,
            spec.name,
            task.code or spec.function,
            spec.payload,
            group,
            split=spec.split,
            user=spec.user,
        )
    return RunTask(
        task=record.id,
        attempt=task.attempt,
        name=spec.name,
        function=task.function,
        payload=spec.payload if items == record.items else record.payload_of(task),
        group=group,
        first=task.first,
        items=items,
        split=spec.split,
        call=spec.call,
        timeout_s=spec.timeout_s * items,
        depends=spec.depends,
        constants=spec.constants,
        user=spec.user,
        retry_on=spec.retry_on,
        checkpoints=checkpoints.of_slice(task) if record.checkpoints else (),
    )
