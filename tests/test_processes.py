"""The time limits of processes that tests start."""

import subprocess
import sys

import pytest

from tests.processes import limited, printed, run_process

HANGING = [sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(600)"]


def test_a_process_that_hangs_is_ended_and_its_output_is_shown():
    with pytest.raises(pytest.fail.Exception, match="not done after 1 s: .*\nhello"):
        run_process(HANGING, seconds=1)


def test_a_process_that_hangs_while_a_test_reads_it_is_ended():
    with (
        subprocess.Popen(HANGING, stdout=subprocess.PIPE, text=True) as process,
        pytest.raises(AssertionError, match="not done after 1 s"),
        limited(process, seconds=1),
    ):
        assert process.stdout.read() == "hello\n", "it reads to the end, which only the limit brings"


def test_processes_that_hang_side_by_side_are_ended():
    process = subprocess.Popen(HANGING, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with pytest.raises(AssertionError, match="not done after 1 s\nprocess 0:\nhello"):
        printed([process], seconds=1)
    assert process.returncode != 0
