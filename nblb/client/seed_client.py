"""The seed's Client: sends a task by name, queries it, cancels it; takes and returns plain dicts."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import msgspec
import zmq

from nblb.client.connection.locate import find_core
from nblb.errors import LoadBalancerUnreachable, NblbError, ParametersError
from nblb.host import account
from nblb.parameters import load
from nblb.system.private_folder import with_connection
from nblb.transport.curve.keys import dial_plainly

LEAST_PATIENCE_MS = 5_000


class Client:
    """A client that uses the core's JSON protocol, like pyLoadBalancer's client.

    Methods raise no exceptions: a returned dict has an 'error' key with a sentence instead.

    Parameters
    ----------
    parametersfile
        The path of a parameters.json, a dict of its keys, or None for the defaults.

    Examples
    --------
    >>> CL = Client('parameters.json')
    >>> taskid = CL.sendTask('HELLO', {'firstName': 'John', 'lastName': 'Doe'}).get('taskid')
    >>> CL.getTask(taskid)
    """

    def __init__(self, parametersfile: Any = None) -> None:
        self._parameters = load(parametersfile)
        self._lock = threading.Lock()
        self._socket: zmq.Socket[bytes] | None = None
        self._pid = os.getpid()
        self._address = ""

    def sendTask(self, taskname: str, taskdict: Any, priority: float = 0, userid: str | None = None) -> dict[str, Any]:
        """Send a task to be run by the function that has this name.

        Parameters
        ----------
        taskname
            The name under which a hub or `lb.publish` registered the function.
        taskdict
            Its argument: anything that JSON can represent.
        priority
            Tasks of higher priority run first among your own; the priority also selects the workers by their band.
        userid
            The user of the task; by default the name of the account.

        Returns
        -------
        dict
            {'taskid': …}, with 'warning' if no present worker knows the name or takes the priority.

        Examples
        --------
        >>> CL.sendTask('HELLO', {'firstName': 'John'}).get('taskid')
        """
        request = {"toLB": "NEWTASK", "taskname": taskname, "taskdict": taskdict, "priority": priority}
        if userid is not None or not self._is_remote():  # on another computer the user is the key's name
            request["userid"] = account() if userid is None else userid
        return self._ask(request)

    def getTask(self, taskid: Any) -> dict[str, Any]:
        """Ask for the progress and the result of one task, or of several.

        Parameters
        ----------
        taskid
            An id, or a list of ids.

        Returns
        -------
        dict
            {'progress', 'result'}, or for a list of ids {id: {'progress', 'result'}}. progress is None for a task that
            is unknown or has failed (with 'error'), 0 while it is queued, 1 to 99 as it reports, 100 when it is done,
            and 'cancelled' if it was cancelled. 'waiting' tells why no worker can ever take a queued task.

        Examples
        --------
        >>> CL.getTask(taskid).get('result')
        """
        if isinstance(taskid, (list, tuple)):
            return self._ask({"toLB": "GETTASKS", "tasksid": list(taskid)}) if taskid else {}
        answer = self._ask({"toLB": "GETTASK", "taskid": taskid})
        return answer if "progress" in answer else {"progress": None, "result": None, **answer}

    def cancelTask(self, taskid: str) -> dict[str, Any]:
        """Cancel a task.

        Parameters
        ----------
        taskid
            Its id.

        Returns
        -------
        dict
            {'deleted': True, 'from': 'queue' | 'pending' | 'done'}, or {'deleted': False, 'from': None}.

        Examples
        --------
        >>> CL.cancelTask(taskid)
        """
        answer = self._ask({"toLB": "CANCELTASK", "taskid": taskid})
        return answer if "deleted" in answer else {"deleted": False, "from": None, **answer}

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._hang_up()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            frame = json.dumps(request, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:  # nothing is converted silently
            return {"error": f"The task cannot be sent as JSON: {error}."}
        with self._lock:
            try:
                return self._io_thread(frame)
            except (LoadBalancerUnreachable, ParametersError) as error:
                return {"error": f"{str(error).rstrip('.')}."}

    def _io_thread(self, frame: bytes) -> dict[str, Any]:
        """Send one request, and return its answer. Not repeated, because the core would see two tasks."""
        socket = self._dialled()
        patience_ms = max(LEAST_PATIENCE_MS, 4 * self._parameters.SOCKET_TIMEOUT)
        socket.send_multipart([b"", frame])
        if not socket.poll(patience_ms):
            self._hang_up()  # a late answer must not be taken for that of the next request
            raise LoadBalancerUnreachable(f"No core answers at {self._address} within {patience_ms / 1000:g} s")
        answer = msgspec.json.decode(socket.recv_multipart()[-1])
        return answer if isinstance(answer, dict) else {"error": f"The core answered {answer!r}."}

    def _is_remote(self) -> bool:
        try:
            return bool(with_connection(self._parameters).connection)
        except NblbError:  # the request gets it for its answer
            return False

    def _dialled(self) -> zmq.Socket[bytes]:
        address = find_core(self._parameters, zeromq=True)
        if self._socket is not None and self._pid == os.getpid() and self._address == address:
            return self._socket
        if self._socket is not None and self._pid == os.getpid():
            self._hang_up()
        self._pid, self._address = os.getpid(), address
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        dial_plainly(self._socket, address)
        return self._socket

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None
