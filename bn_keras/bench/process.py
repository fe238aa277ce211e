"""The measuring process' end of the lines to a worker."""

import json
import os
import subprocess
import sys
import tempfile

from bn_keras.lab.machine import cores


class WorkerError(Exception):
    """A worker ended without an answer; the message has the last that it said."""


def settings():
    """The environment of a worker: as many threads as cores for every library, and few words."""
    threads = str(cores())
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC", "OPENBLAS_NUM_THREADS")
    fixed = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2", "JAX_PLATFORMS": "cpu"}
    return os.environ | fixed | dict.fromkeys(names, threads)


class Process:
    """A worker that is running, from its start to `close`."""

    def __init__(self, peer):
        self.peer = peer
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        # A session of its own: Ctrl-C is for the process that measures, which then closes this one.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bn_keras.bench.worker", peer],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said,
            text=True, encoding="utf-8", env=settings(), start_new_session=True,
        )  # fmt: skip

    def ask(self, do, **request):
        """The answer to one request.

        Raises:
            WorkerError: When there is none.
        """
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"The process of {self.peer} ended with code {self.process.wait()}. {self.last_words()}")
        return json.loads(line)

    def last_words(self):
        self.said.seek(0)
        return " ".join(self.said.read().decode(errors="replace").splitlines()[-3:])

    def close(self):
        self.process.terminate()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.said):
            stream.close()


class Pool:
    """Workers by peer, each started when it is first needed; all are closed at the end of a `with`."""

    def __init__(self):
        self.workers = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close_all()

    def get(self, peer):
        if peer not in self.workers:
            self.workers[peer] = Process(peer)
        return self.workers[peer]

    def close_all(self):
        for name in list(self.workers):
            self.close(name)

    def close(self, peer):
        if peer in self.workers:
            self.workers.pop(peer).close()
