"""Forks processes from a server that has imported TensorFlow, which saves each process 3 s of imports.

Run as a script, this file is the server. The server never imports bn_keras. For each connection to its socket it forks
a monitor, which forks the process, sends the id of the process, waits for its end and sends its exit code.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import random
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import types

# Not onnxruntime: at the end of a forked process it waits for threads that the fork has not.
IMPORTED = ("tensorflow", "keras", "tensorflow.lite", "tf2onnx.convert", "ai_edge_litert.interpreter")
NUMBER = struct.Struct("q")
SECONDS = 300  # until the server has imported everything and answers


@functools.cache
def server_address():
    """Starts the server of this process and returns the path of its socket. The server ends with this process."""
    folder = tempfile.TemporaryDirectory()
    path = os.path.join(folder.name, "server")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        server = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
    atexit.register(lambda: (server.stdin.close(), server.wait(), folder.cleanup()))
    return path


class Forked:
    """Stands in for `subprocess.Popen` of this Python. Its output goes through files, not through pipes."""

    def __init__(
        self, command, *, cwd=None, env=None, start_new_session=False, text=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ):  # fmt: skip
        assert (command[0], stdin) == (sys.executable, subprocess.DEVNULL)
        self.args, self.text, self.returncode = command, text, None
        self.stdout = file_for(stdout)
        self.stderr = self.stdout if stderr == subprocess.STDOUT else file_for(stderr)
        request = {
            "arguments": [*map(str, command[1:])],
            "folder": str(cwd or os.getcwd()),
            "environment": dict(os.environ if env is None else env),
            "new_session": start_new_session,
        }
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(server_address())
        socket.send_fds(self.connection, [b"files"], [self.stdout.fileno(), self.stderr.fileno()])
        self.connection.sendall(json.dumps(request).encode() + b"\n")
        self.pid = self.next_number(SECONDS)

    def next_number(self, seconds):
        """What the monitor sends next."""
        self.connection.settimeout(None if seconds is None else max(seconds, 1e-3))
        try:
            received = self.connection.recv(NUMBER.size, socket.MSG_WAITALL)
        except TimeoutError:
            raise subprocess.TimeoutExpired(self.args, seconds) from None
        assert received, f"the server of forked processes has ended before {self.args}"
        return NUMBER.unpack(received)[0]

    def wait(self, timeout=None):
        if self.returncode is None:
            self.returncode = self.next_number(timeout)
            self.connection.close()
        return self.returncode

    def communicate(self, timeout=None):
        """What the process printed to its end."""
        self.wait(timeout)
        return self.content(self.stdout), self.content(self.stderr)

    def content(self, file):
        file.seek(0)
        return file.read().decode(errors="replace") if self.text else file.read()

    def kill(self):
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def file_for(output):
    """The file that a process writes to; a new one stands in for a pipe."""
    return tempfile.TemporaryFile() if output == subprocess.PIPE else output


def serve(descriptor):
    """Forks processes until the tests end; returns in each of them, with its request and the files for its output."""
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a forked process would copy the memory of all these modules
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the monitors
    listener = socket.socket(fileno=descriptor)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return None
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return fork_and_wait(connection)
        connection.close()


def fork_and_wait(connection):
    """The monitor of one process; returns in the process alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, *_ = socket.recv_fds(connection, len(b"files"), 2)
    with connection.makefile("rb") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        if request["new_session"]:
            os.setsid()
        connection.sendall(NUMBER.pack(os.getpid()))
        connection.close()
        return request, files
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):  # the tests may have ended
        connection.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def run(request, files):
    """Does in this process what `python ARGUMENTS` does in a new one."""
    for descriptor, file in enumerate((os.open(os.devnull, os.O_RDONLY), *files)):
        os.dup2(file, descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    random.seed()  # otherwise all forked processes draw the same seeds
    importlib.import_module("numpy").random.seed()
    kind, *rest = request["arguments"]
    isolated = kind == "-I"
    if isolated:
        kind, *rest = rest
    own = {"-m": os.getcwd(), "-c": ""}.get(kind, os.path.dirname(os.path.abspath(kind)))
    named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [] if isolated else [own, *named]  # the first one was the folder of this file
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    else:
        sys.argv = [kind, *rest]
        runpy.run_path(str(pathlib.Path(kind)), run_name="__main__")


if __name__ == "__main__":
    found = serve(int(sys.argv[1]))
    if found:
        run(*found)
