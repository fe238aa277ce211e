"""Forks the processes of `bn_keras.export` from a server that has imported TensorFlow, which saves the imports.

Run as a script, this file is the server. The server never imports bn_keras. It reads requests, one line of JSON each,
forks a process that runs the requested script, and prints the process id and then the exit code.
"""

import contextlib
import importlib
import json
import os
import pathlib
import runpy
import select
import subprocess
import sys
import tempfile
import traceback

SECONDS = 300  # for a script without a time limit


class Forked:
    """Stands in for `subprocess.Popen` in `bn_keras.export.process`; one process runs at a time."""

    server = None

    def __init__(self, command, *, env, start_new_session, stdin, stdout, stderr):
        assert command[:2] == [sys.executable, "-I"]
        assert start_new_session
        assert (stdin, stderr) == (subprocess.DEVNULL, subprocess.STDOUT)
        if Forked.server is None or Forked.server.poll() is not None:
            Forked.server = subprocess.Popen(
                [sys.executable, "-I", __file__], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        self.printed, self.folder, self.code = stdout, tempfile.TemporaryDirectory(), None
        request = {"arguments": command[2:], "environment": env, "printed": self.path_of_printed()}
        Forked.server.stdin.write(json.dumps(request).encode() + b"\n")
        self.pid = self.answer(None)

    def path_of_printed(self):
        return os.path.join(self.folder.name, "printed")

    def answer(self, seconds):
        """The next number that the server prints."""
        ready, _, _ = select.select([Forked.server.stdout], [], [], SECONDS if seconds is None else seconds)
        if not ready and seconds is not None:
            raise subprocess.TimeoutExpired("a forked script", seconds)
        assert ready, f"a forked script was not done after {SECONDS} s"
        return int(Forked.server.stdout.readline())

    def wait(self, seconds=None):
        if self.code is None:
            self.code = self.answer(seconds)
            self.printed.write(pathlib.Path(self.path_of_printed()).read_bytes())
            self.folder.cleanup()
        return self.code


def run(arguments, environment, printed):
    """Runs a script as `python -I` does, in this process, and ends it."""
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(printed, os.O_WRONLY | os.O_CREAT)
    for descriptor, file in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
        os.dup2(file, descriptor)
    sys.argv, code = arguments, 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as error:
        code = error.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def serve():
    """Forks a process for each request."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for name in ("tensorflow", "tensorflow.lite", "tf2onnx.convert", "ai_edge_litert.interpreter", "onnxruntime"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        pid = os.fork()
        os.setpgid(pid, pid)  # in both processes, so that the group exists before anyone can kill it
        if pid == 0:
            run(**json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
