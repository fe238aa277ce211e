"""Workers do not outlive the process that started them."""

import psutil
import pytest

from tests.processes import start

PARENT = """
import multiprocessing, threading, time
from bn_keras.lab.one_thread import end_with_parent

def work():
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(multiprocessing.current_process().pid, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work).start()
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = start([script], new=True)
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait(60)
    worker.wait(60)
    assert not worker.is_running()
