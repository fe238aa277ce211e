"""The processes that tests start: their time limits, and that a forked one behaves as a new one."""

import json
import os
import subprocess
import sys

import pytest

from tests.processes import limited, printed, run_process, start

HANGING = "import time; print('hello', flush=True); time.sleep(600)"
BOTH = pytest.mark.parametrize("new", [False, True], ids=["forked", "new"])
ABOUT = """
import json, os, random, sys
import about_module
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get("WORD"), __name__, "bn_keras" in sys.modules]))
print(random.random(), "tensorflow" in sys.modules, file=sys.stderr)
"""


@pytest.mark.slow
@BOTH
def test_a_process_that_hangs_is_ended_and_its_output_is_shown(new):
    with pytest.raises(pytest.fail.Exception, match="not done after 3 s: .*\nhello"):
        run_process([sys.executable, "-c", HANGING], seconds=3, new=new)


@pytest.mark.slow
def test_a_process_that_hangs_while_a_test_reads_it_is_ended():
    with (
        subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True) as process,
        pytest.raises(AssertionError, match="not done after 3 s"),
        limited(process, seconds=3),
    ):
        assert process.stdout.read() == "hello\n", "it reads to the end, which only the limit brings"


@pytest.mark.slow
@BOTH
def test_processes_that_hang_side_by_side_are_ended(new):
    processes = [start(["-c", HANGING], new=new) for _ in range(2)]
    with pytest.raises(AssertionError, match="not done after 3 s\nprocess 0:\nhello"):
        printed(processes, seconds=3)
    assert all(process.returncode < 0 for process in processes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process is forked")
@pytest.mark.parametrize("kind", ["-m", "-c", "script"])
def test_a_forked_process_is_as_a_new_one_apart_from_its_imports(kind, tmp_path):
    (tmp_path / "about_module.py").write_text("")
    (tmp_path / "about.py").write_text(ABOUT)
    command = {"-m": ["-m", "about"], "-c": ["-c", ABOUT], "script": [str(tmp_path / "about.py")]}[kind]
    settings = {"cwd": tmp_path, "env": os.environ | {"WORD": "said"}}
    forked, again, fresh = (
        run_process([sys.executable, *command, "one", "2"], new=new, **settings) for new in (False, False, True)
    )
    assert [done.returncode for done in (forked, again, fresh)] == [0, 0, 0], forked.stderr
    assert forked.stdout == fresh.stdout
    assert json.loads(forked.stdout) == [["one", "2"], str(tmp_path), "said", "__main__", False]
    assert forked.stderr.endswith(" True\n")
    assert fresh.stderr.endswith(" False\n")
    assert forked.stderr != again.stderr, "the same random numbers"


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("raise ValueError('wrong')", 1, "ValueError: wrong"),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import sys; sys.exit(3)", 3, ""),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import atexit, sys; atexit.register(lambda: print('ended', file=sys.stderr))", 0, "ended\n"),
    ],
)
def test_the_end_of_a_process_is_told(code, exit_code, said, new):
    done = run_process([sys.executable, "-c", code], new=new)
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert said in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process is forked")
def test_settings_that_imports_read_take_a_new_process():
    code = "import sys; print('tensorflow' in sys.modules)"
    for changes, forked in (({"TF_CONFIG": "{}"}, True), ({"KERAS_BACKEND": "tensorflow"}, False)):
        done = run_process([sys.executable, "-c", code], env=os.environ | changes)
        assert done.stdout == f"{forked}\n"
