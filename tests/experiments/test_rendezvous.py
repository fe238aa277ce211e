"""Workers meet before TensorFlow joins them; threads stand for processes here."""

import socket
import threading
import time

import pytest

from bn_keras.experiments.rendezvous import ClusterError, Member, meet
from tests.processes import free_ports


def members(count):
    return [Member(f"worker {i}", f"127.0.0.1:{port}") for i, port in enumerate(free_ports(count))]


class Worker(threading.Thread):
    """Calls `meet`, and keeps how it ended."""

    def __init__(self, members, own, timeout=20.0):
        super().__init__(daemon=True)
        self.arguments, self.said, self.error = (members, own, timeout), [], None
        self.start()

    def run(self):
        try:
            meet(*self.arguments, tell=self.said.append)
        except ClusterError as error:
            self.error = str(error)

    def outcome(self, seconds=20):
        self.join(seconds)
        assert not self.is_alive()
        return self.error


def test_one_worker_does_not_wait():
    meet(members(1), 0, 0.0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_workers_meet_in_any_order_and_leave_the_port_free(order):
    all_members = members(3)
    workers = []
    for own in order:
        workers.append(Worker(all_members, own))
        time.sleep(0.1)
    assert [worker.outcome() for worker in workers] == [None] * 3
    with socket.socket() as plain:  # without SO_REUSEADDR: no closed connection keeps the port
        plain.bind(("", int(all_members[0].address.split(":")[1])))


@pytest.mark.slow
def test_all_workers_name_the_one_that_is_missing():
    all_members = members(3)
    first, second = Worker(all_members, 0, 1.0), Worker(all_members, 1)
    assert f"worker 2 at {all_members[2].address} did not join within 1 s" in first.outcome()
    assert second.outcome() == first.error


@pytest.mark.slow
def test_a_worker_names_the_first_one_when_that_is_missing():
    all_members = members(2)
    error = Worker(all_members, 1, 0.5).outcome()
    assert error.startswith(f"worker 0 at {all_members[0].address} did not join within 0.5 s")


@pytest.mark.slow
def test_the_waiting_worker_says_whom_it_waits_for():
    all_members = members(2)
    worker = Worker(all_members, 0, 0.3)
    worker.outcome()
    assert worker.said == [f"{all_members[0]} waits up to 0.3 s for {all_members[1]}"]


def test_a_worker_that_left_while_it_waited_can_come_back():
    all_members = members(3)
    first = Worker(all_members, 0)
    gone = Worker(all_members, 1, 0.0)  # its time is over before it starts
    assert gone.outcome()
    leave_after_the_hello(all_members)
    workers = [Worker(all_members, own) for own in (2, 1)]
    assert [worker.outcome() for worker in (first, *workers)] == [None] * 3


def leave_after_the_hello(all_members):
    """What the first worker sees of worker 1 when that is killed while it waits."""
    from bn_keras.experiments import rendezvous

    while True:
        with rendezvous._greeted_by(all_members[0]) as connection:
            if connection:
                rendezvous._send(connection, {"index": 1, "cluster": rendezvous._fingerprint(all_members)})
                return
        time.sleep(0.05)


@pytest.mark.slow
def test_a_worker_waits_while_an_earlier_run_has_the_port_of_the_first():
    all_members = members(2)
    with socket.create_server(("127.0.0.1", int(all_members[0].address.split(":")[1]))) as earlier:
        worker = Worker(all_members, 1)
        for _ in range(2):  # an HTTP/2 server answers with its settings
            connection, _ = earlier.accept()
            with connection:
                connection.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00")
        assert worker.is_alive()
    first = Worker(all_members, 0)
    assert [first.outcome(), worker.outcome()] == [None, None]


def test_strangers_on_the_port_are_ignored():
    all_members = members(2)
    first = Worker(all_members, 0)
    while not first.said:
        time.sleep(0.01)
    for said in (b"GET / HTTP/1.1\r\n", b"[]\n", b'{"index": "1"}\n'):
        host, port = all_members[0].address.split(":")
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(said)
    assert [Worker(all_members, 1).outcome(), first.outcome()] == [None, None]


@pytest.mark.slow
def test_another_list_of_addresses_is_named():
    ours = members(2)
    first = Worker(ours, 0, 1.0)
    other = Worker([ours[0], *members(1)], 1)
    assert "another list of addresses" in other.outcome()
    assert ours[1].address in other.error
    assert "did not join" in first.outcome()
    assert other.error in first.said


@pytest.mark.slow
def test_two_processes_with_the_same_index_are_named():
    all_members = members(3)
    first = Worker(all_members, 0, 1.0)
    twice = [Worker(all_members, 1), Worker(all_members, 1)]
    first.outcome()
    errors = [worker.outcome() for worker in twice]
    assert any(f"Two processes joined as {all_members[1]}" in error for error in errors)


@pytest.mark.slow
@pytest.mark.parametrize("own", [0, 1])
def test_a_port_that_is_taken_is_named(own, monkeypatch):
    monkeypatch.setattr("bn_keras.experiments.rendezvous.PORT_SECONDS", 0.3)
    all_members = members(2)
    port = int(all_members[own].address.split(":")[1])
    with socket.create_server(("", port)):
        assert f"cannot listen on port {port}" in Worker(all_members, own).outcome()
