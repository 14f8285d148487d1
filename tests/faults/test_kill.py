"""Killed processes: nothing that they started outlives them for two seconds, and nothing that they
half wrote stays.
"""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from support.processes.live import gone, heed_interrupts, marked, wait_for
from support.processes.repositories import git, repository

from pudle import workers
from pudle.files import write_atomically
from pudle.measuring.store import locked

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="looks for processes in /proc"
)

#: A command that starts another one in a process group of its own, as asv does.
TREE = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
subprocess.Popen(sleep, process_group=0, stdout=subprocess.DEVNULL)
print("started", flush=True)
time.sleep(600)
"""

COMMAND = """
import sys
from pudle.workers import Process
with Process([sys.executable, "-c", sys.argv[1], sys.argv[2]], [1, 2]) as process:
    process.wait()
"""

POOL = """
import math, sys, time
from pudle.workers import Job, Pool
from busy_job import busy

with Pool(2) as workers:
    for _ in workers.run([Job(busy, (), math.inf, None)] * 2):
        pass
"""

BUSY = """
import pathlib, subprocess, sys, time

def busy():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path(f"busy-{time.time_ns()}").touch()
    # One call, during which no other thread of this process runs.
    sum(range(10**15))
"""

BUILD = """
import sys, time
from pathlib import Path
from pudle.measuring.commits import pair
pair._pip = lambda label, *arguments: (print("pip", flush=True), time.sleep(600))
with pair.build_commit(Path(sys.argv[1]), "HEAD", Path(sys.argv[2]), "head"):
    pass
"""

WRITES = """
import sys, itertools
from pathlib import Path
from pudle.files import write_atomically
print("ready", flush=True)
for number in itertools.count():
    write_atomically(Path("content"), f"{number % 10}" * 1_000_000)
"""


@pytest.fixture
def mark():
    """A mark that every descendant of a process inherits."""
    return f"mark-{uuid.uuid4().hex}"


@pytest.fixture
def start(tmp_path, mark):
    """Start a script, in a folder whose modules it can import, with the mark."""

    def start(text, *arguments):
        script = tmp_path / "script.py"
        script.write_text(text)
        return subprocess.Popen(
            [sys.executable, script, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PUDLE_TEST_MARK": mark, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )

    return start


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_ends_with_its_parent_and_takes_along_what_it_started(number, start, mark):
    process = start(COMMAND, TREE, "child")
    assert process.stdout.readline() == "started\n"
    # This process's child, its supervisor, the guard, the command, and what the command started,
    # once it has its environment.
    wait_for(lambda: len(marked(mark)) == 5)
    process.send_signal(number)
    process.communicate()
    assert gone(mark)


def test_a_command_that_is_left_early_ends_and_one_that_ends_leaves_nothing(
    tmp_path, mark, monkeypatch
):
    workers.run(["true"])  # so that the supervisor has no mark
    monkeypatch.setenv("PUDLE_TEST_MARK", mark)
    with workers.Process([sys.executable, "-c", TREE, "child"]):
        wait_for(lambda: len(marked(mark)) == 2)
    assert not marked(mark)
    ends = TREE.removesuffix("time.sleep(600)\n") + 'print("said", file=sys.stderr)\nsys.exit(7)'
    done = workers.run([sys.executable, "-c", ends, "child"])
    assert (done.returncode, done.stdout, done.stderr) == (7, "started\n", "said\n")
    assert not marked(mark)


def test_busy_workers_and_what_they_started_end_with_their_parent(tmp_path, start, mark):
    (tmp_path / "busy_job.py").write_text(BUSY)
    process = start(POOL)
    wait_for(lambda: len(list(tmp_path.glob("busy-*"))) == 2)
    wait_for(lambda: len(marked(mark)) >= 5)
    process.kill()
    process.communicate()
    assert gone(mark)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_worktree_outlives_the_comparison_that_made_it(number, tmp_path, start, mark):
    root = repository(tmp_path / "repository")
    folder = tmp_path / "build"
    process = start(BUILD, root, folder)
    assert process.stdout.readline() == "pip\n" and (folder / "tree").exists()
    process.send_signal(number)
    process.communicate()
    assert gone(mark) and not folder.exists()
    assert len(git(root, "worktree", "list").splitlines()) == 1


def test_a_file_that_is_being_written_is_never_seen_half_done(tmp_path, start):
    """Writers are killed at any moment: the file holds one of the contents in full, and the next
    run sweeps the rest.
    """
    for delay in (0.01, 0.02, 0.05, 0.1):
        process = start(WRITES)
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.communicate()
        if (tmp_path / "content").exists():
            content = (tmp_path / "content").read_text()
            assert content == content[0] * 1_000_000
    with locked(tmp_path, "run"):
        assert not list(tmp_path.glob(".*.tmp"))
    write_atomically(tmp_path / "content", "new")
    assert (tmp_path / "content").read_text() == "new"
