"""Workers meet over plain TCP before TensorFlow joins them, because TensorFlow waits for a missing worker without end.

The first worker listens on its own TensorFlow port. The others connect, read its greeting and send who they are. Once
all are there, the first worker sends each of them `GO` and frees the port, and TensorFlow's server takes it.

A worker that restarts may find the TensorFlow server of a run that is about to end on that port. That server does not
send the greeting, so the worker tries again.
"""

import contextlib
import dataclasses
import hashlib
import json
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence

GREETING = {"bn_keras": "rendezvous"}
GO = {"go": True}
ANSWER_SECONDS = 2.0  # a stranger on the port that says nothing holds up the others for as long
RETRY_SECONDS = 0.2
PORT_SECONDS = 10.0  # how long a process that ends may keep the port


class ClusterError(RuntimeError):
    """The cluster is not described rightly, or its workers do not come together."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A process of the cluster: its name, such as `"worker 1"`, and its address, `"host:port"`."""

    name: str
    address: str

    def __str__(self):
        return f"{self.name} at {self.address}"


def meet(members: Sequence[Member], own: int, timeout: float, tell: Callable[[str], object] = print) -> None:
    """Waits until all members have called this function.

    Args:
        members: All processes of the cluster, in the same order everywhere.
        own: The index of this process in `members`.
        timeout: The time limit in seconds.
        tell: Takes one line about who is missing, when this process has to wait.

    Raises:
        ClusterError: When a member is missing after `timeout`, when members were started with different lists of
            addresses, when two processes have the same index, and when the port is taken.
    """
    if len(members) == 1:
        return
    if own == 0:
        _wait_for_others(members, timeout, tell)
    else:
        _listener(members[own]).close()  # TensorFlow's server needs the port; a busy one is better named now
        _report(members, own, timeout, tell)


def _wait_for_others(members, timeout, tell):
    """The first member's part: it listens until all others are connected at once."""
    deadline = time.monotonic() + timeout
    joined: dict[int, socket.socket] = {}
    with _listener(members[0]) as listener, contextlib.ExitStack() as connections:
        tell(f"{members[0]} waits up to {timeout:g} s for {_named(members[1:])}")
        while len(joined) < len(members) - 1:
            if time.monotonic() > deadline:
                missing = [member for index, member in enumerate(members) if index and index not in joined]
                message = _missing_message(missing, timeout, members)
                _send_to_all(joined, {"error": message})
                raise ClusterError(message)
            with contextlib.suppress(TimeoutError):
                connection = connections.enter_context(listener.accept()[0])
                index = _introduced(connection, members, tell)
                if index in joined:
                    _send(joined[index], {"error": _twice_message(members[index])})
                if index is not None:
                    joined[index] = connection
            joined = {index: connection for index, connection in joined.items() if _is_open(connection)}
        _send_to_all(joined, GO)
        for connection in joined.values():  # who closes first keeps the port busy for a minute, so that is not us
            _receive(connection)


def _listener(member):
    """A socket that listens on the member's port, as TensorFlow's server will on the same one."""
    port, end = int(member.address.rpartition(":")[2]), time.monotonic() + PORT_SECONDS
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    while True:
        try:
            listener = socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=128)
        except OSError as error:
            if time.monotonic() < end:
                time.sleep(RETRY_SECONDS)
                continue
            raise ClusterError(
                f"{member} cannot listen on port {port}: {error.strerror}. Is another process using it, perhaps a "
                "worker of an earlier run? End that process, or choose another port for all workers."
            ) from None
        listener.settimeout(RETRY_SECONDS)
        return listener


def _introduced(connection, members, tell):
    """The index of the member at the other end; `None` for strangers, and for members of another cluster."""
    connection.settimeout(ANSWER_SECONDS)
    _send(connection, GREETING)
    hello = _receive(connection) or {}
    index = hello.get("index")
    if hello.get("cluster") == _fingerprint(members) and isinstance(index, int) and 0 < index < len(members):
        return index
    if "cluster" in hello:
        message = (
            f"A process with index {index} tried to join with another list of addresses. All processes must list: "
            f"{_named(members)}."
        )
        tell(message)
        _send(connection, {"error": message})
    return None


def _report(members, own, timeout, tell):
    """The other members' part: they connect to the first one and wait for its word."""
    deadline = time.monotonic() + timeout
    tell(f"{members[own]} waits up to {timeout:g} s for {members[0]}")
    while time.monotonic() < deadline:
        with _greeted_by(members[0]) as connection:
            if connection is not None:
                # The first member started to wait later than we did, and it names who is missing.
                deadline = time.monotonic() + timeout
                _send(connection, {"index": own, "cluster": _fingerprint(members)})
                connection.settimeout(timeout + ANSWER_SECONDS)
                word = _receive(connection) or {}
                if word == GO:
                    return
                if "error" in word:
                    raise ClusterError(word["error"])
        time.sleep(RETRY_SECONDS)
    raise ClusterError(_missing_message(members[:1], timeout, members))


@contextlib.contextmanager
def _greeted_by(first) -> Iterator[socket.socket | None]:
    """A connection to the first member; `None` when it does not wait for us yet."""
    host, _, port = first.address.rpartition(":")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS)
    except OSError:  # not started yet, or its name is not known yet: we try again until our time is over
        yield None
        return
    with connection:
        yield connection if _receive(connection) == GREETING else None


def _missing_message(missing, timeout, members):
    process = "its process runs" if len(missing) == 1 else "their processes run"
    return (
        f"{_named(missing)} did not join within {timeout:g} s. Check that {process}, that all processes list the same "
        f"addresses, and that all processes can reach {members[0].address}. --join-timeout sets the time limit."
    )


def _twice_message(member):
    return f"Two processes joined as {member}. Give each process its own task index."


def _named(members):
    return ", ".join(map(str, members))


def _fingerprint(members):
    return hashlib.sha256(_named(members).encode()).hexdigest()


def _is_open(connection):
    """Whether the other end still waits for our word."""
    readable, _, _ = select.select([connection], [], [], 0)
    return not readable  # a member says nothing more, so what can be read is the end


def _send_to_all(joined, message):
    for connection in joined.values():
        _send(connection, message)


def _send(connection, message):
    with contextlib.suppress(OSError):  # whoever has gone is noticed when its answer is read
        connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(connection):
    """One message; `None` when the other end closes, says nothing in time or speaks another protocol."""
    received = b""
    try:
        while not received.endswith(b"\n"):
            part = connection.recv(65536)
            if not part or len(received) > 65536:
                return None
            received += part
        message = json.loads(received)
    except (OSError, ValueError):
        return None
    return message if isinstance(message, dict) else None
