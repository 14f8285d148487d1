"""Processes that leave their session, or whose guard or supervisor is killed: all of them end."""

import os
import signal
import subprocess
import sys
import time
import uuid

import pytest
from support.processes.live import gone, heed_interrupts, marked, wait_for

from pudle import workers

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="other systems have no way to adopt orphans"
)

#: Ways in which a process leaves the session and the parent that it was started with.
ESCAPES = {
    "session of its own": """
subprocess.Popen(SLEEP, start_new_session=True)
""",
    "two forks": """
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    os.execv(SLEEP[0], SLEEP)
""",
    "chain of sessions": """
script = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
subprocess.Popen([sys.executable, "-c", script, *SLEEP], start_new_session=True).wait()
""",
    "closed and ignoring": """
if not os.fork():
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(0, 4096)
    time.sleep(600)
""",
}

ESCAPING = """
import os, pathlib, signal, subprocess, sys, time
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]

def escape(how, then):
    for code in how:
        exec(code, globals())
    pathlib.Path(f"escaped-{os.getpid()}").touch()
    time.sleep(then)
"""

POOL = """
import math, sys, time
from pudle.workers import Job, Pool
from escaping import escape

with Pool(1) as pool:
    for _, outcome in pool.run([Job(escape, (sys.argv[2:], float(sys.argv[1])), math.inf, None)]):
        print(outcome.status, outcome.reason, flush=True)
time.sleep(600)
"""


@pytest.fixture
def mark():
    """A mark that every descendant of a process inherits."""
    return f"mark-{uuid.uuid4().hex}"


@pytest.fixture
def start(tmp_path, mark):
    """Start a pool with a job that starts processes in some ways and then sleeps; return once they
    are there.
    """
    (tmp_path / "escaping.py").write_text(ESCAPING)
    (tmp_path / "pool.py").write_text(POOL)
    begun = []

    def start(seconds, ways, escaped):
        process = subprocess.Popen(
            [sys.executable, "pool.py", str(seconds), *ways],
            cwd=tmp_path,
            env=os.environ | {"PUDLE_TEST_MARK": mark, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )
        begun.append(process)
        wait_for(lambda: list(tmp_path.glob("escaped-*")))
        if seconds:
            # This process's child, its supervisor, the guard, the worker, and what escaped.
            wait_for(lambda: len(marked(mark)) == 4 + escaped)
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def child_of(number):
    """Return the first child of a process."""
    return next(process.number for process in workers._living() if process.parent == number)


@pytest.mark.parametrize("how", ESCAPES)
def test_what_leaves_its_session_ends_with_the_pool(how, start, mark):
    process = start(0, [ESCAPES[how]], 1)
    assert process.stdout.readline() == "ok \n"
    # The pool has ended, and its process lives on with its supervisor.
    wait_for(lambda: len(marked(mark)) <= 2, 1)
    assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_leaves_its_session_ends_with_the_program(number, start, mark):
    process = start(600, ESCAPES.values(), 4)
    process.send_signal(number)
    assert gone(mark, 1)


@pytest.mark.parametrize("who", ["supervisor", "guard", "worker"])
def test_whichever_process_is_killed_takes_along_what_depends_on_it(who, start, mark):
    process = start(600, ESCAPES.values(), 4)
    supervisor = child_of(process.pid)
    guard = child_of(supervisor)
    worker = child_of(guard)
    os.kill({"supervisor": supervisor, "guard": guard, "worker": worker}[who], signal.SIGKILL)
    if who == "supervisor":
        # The job goes on: only what is started later needs a supervisor.
        time.sleep(0.2)
        assert {guard, worker} <= {*marked(mark)}
        process.kill()
        assert gone(mark, 1)
        return
    assert "killed" in process.stdout.readline()
    # The process and its supervisor are left, and end with it.
    wait_for(lambda: {*marked(mark)} == {process.pid, supervisor}, 1)
    process.kill()
    assert gone(mark, 1)


def test_a_pool_whose_supervisor_was_killed_starts_another():
    assert workers.run(["true"]).returncode == 0
    supervisor = workers._CONTROL.process
    first = supervisor.pid
    os.kill(first, signal.SIGKILL)
    # Its first thread may have ended while another one still holds the connection.
    wait_for(lambda: supervisor.poll() is not None)
    assert workers.run(["echo", "again"]).stdout == "again\n"
    assert workers._CONTROL.process.pid != first


def test_a_supervisor_that_is_importing_ends_with_its_parent(tmp_path, mark):
    """Loading torch takes it seconds, in which it does not listen."""
    script = "from pudle.workers import Process; import time, os\n"
    script += "Process(os.getpid, module='pudle.measuring.run')\nprint(1, flush=True)\n"
    script += "time.sleep(600)"
    environment = os.environ | {"PUDLE_TEST_MARK": mark}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    wait_for(lambda: len(marked(mark)) == 2)
    process.kill()
    process.communicate()
    assert gone(mark, 1)
