"""Scripts that run in a new Python process without bn_keras."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

# Of a training job's worker and of its GPUs the new process must know nothing.
LEFT_OUT = {"TF_CONFIG"}
SET = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class ProcessError(RuntimeError):
    """The process did not end well; the message is the last line that it printed."""

    def __init__(self, code: int, last: str):
        super().__init__(f"a new process ended with code {code}: {last}")


def run(script: pathlib.Path, *arguments: str, seconds: float | None = None) -> None:
    """Runs a script to its end.

    The process belongs to a session of its own, so that it can be killed with all the processes that it started. It is
    killed after `seconds`, and when this call is interrupted.

    Args:
        script: The path of the script, which cannot import bn_keras from the working directory or PYTHONPATH.
        arguments: The arguments of the script.
        seconds: The time limit; `None` for none.

    Raises:
        ProcessError: When the script fails.
        TimeoutError: When the time limit is over.
    """
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT} | SET
    command = [sys.executable, "-I", str(script), *arguments]
    with tempfile.TemporaryFile() as printed:  # a pipe would stay open as long as any process that the script started
        process = subprocess.Popen(
            command, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except BaseException as error:
            kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(f"the process took longer than {seconds:.0f} s") from None
            raise
        if code:
            printed.seek(0)
            lines = printed.read().decode(errors="replace").strip().splitlines()
            raise ProcessError(code, (lines or ["it said nothing"])[-1][:300])


def kill(process):
    """Kills a process and all that it started; Windows knows no sessions, and only the process itself is killed."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
