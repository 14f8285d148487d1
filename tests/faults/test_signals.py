"""Signals and outputs that close: one line or none, exit code 2, never a traceback, and never exit
code 1.
"""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import click
import pytest
from support.estimators.plugin import write_plugin
from support.processes import commands
from support.processes.live import gone, marked, wait_for

from pudle import cli

PUDLE = [sys.executable, "-m", "pudle"]
FULL = Path("/dev/full")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_run_and_all_its_workers_and_what_was_finished_stays(number, tmp_path):
    mark, path = f"mark-{uuid.uuid4().hex}", write_plugin(tmp_path / "plugin", ["sleeps"])
    arguments = "run --scores-only --workers 2 --home home --only --estimator alternating --case"
    arguments = [*arguments.split(), "sparse_gaussian-ista-lasso", "--estimator"]
    options = {"cwd": tmp_path, "path": path}
    started = commands.start(*arguments, "sleeps", **options, env={"PUDLE_TEST_MARK": mark})
    store = tmp_path / "home" / "quick" / "store"

    def scores():
        return {path: path.stat().st_mtime_ns for path in store.glob("*-lasso/*.json")}

    wait_for(lambda: scores() and len(marked(mark)) >= 2)
    started.send(number)
    done = started.wait(60)
    assert gone(mark)
    if number == signal.SIGKILL:
        assert done.returncode == -number
    else:
        assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
        line = done.stderr.splitlines()[-1]
        assert line.startswith("pudle: error: interrupted: ") and not list(store.rglob(".*.tmp"))
    finished = scores()
    done = commands.call(*arguments, "backprop", cwd=tmp_path)
    assert done.returncode == 0 and "1 of 2 scores computed now" in done.stdout, done.stderr
    assert len(scores()) == 2 and finished.items() <= scores().items()


@pytest.mark.skipif(not FULL.exists(), reason="this machine has no /dev/full")
def test_an_output_that_is_full_is_one_line(tmp_path):
    with FULL.open("w") as full:
        done = subprocess.run(
            [*PUDLE, "--help"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True
        )
    said = "the output cannot be written (No space left on device): finished results are kept"
    assert (done.returncode, done.stderr) == (2, f"pudle: error: {said}\n")
    # Where not even the error can be written, the exit code says it.
    with FULL.open("w") as full:
        done = subprocess.run([*PUDLE, "frobnicate"], cwd=tmp_path, stdout=full, stderr=full)
    assert done.returncode == 2


@pytest.mark.parametrize("arguments", [["--help"], ["list", "experiments"]])
def test_a_pipe_that_nobody_reads_any_more_ends_the_program_without_a_word(arguments, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PUDLE, *arguments], cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (2, "")


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """Call the program in this process, and return the only line that it prints."""

    def fails(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["pudle", *arguments])
        assert cli.run() == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return fails


@pytest.mark.parametrize("code", [0, "done"])
def test_whatever_ends_the_program_early_is_no_success_and_no_regression(code, monkeypatch, fails):
    @click.command()
    def ends():
        sys.exit(code)

    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: ends)
    line = fails("ends")
    assert f"a plug-in tried to end the program with sys.exit({code!r})" in line
    assert line.endswith("repair the plug-in")
