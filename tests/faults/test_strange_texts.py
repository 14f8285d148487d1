"""Texts and names that files bring along: none of them moves a terminal or ends a report."""

import json
from unittest import mock

import commands
import pytest
from examples import TINY
from synthetic import case, record, write, write_every_kind, write_record

from pudle.measuring import cluster
from pudle.measuring.runner import Task
from pudle.measuring.store import Store
from pudle.workers import Outcome

#: The title of the window, red, and a bell; text that runs from right to left.
ESCAPES = "\x1b]0;title\x07\x1b[31m\u202e\x9b2J"
#: Fields whose texts are free.
FREE = {"reason", "estimator", "machine", "cpu", "commit", "name", "title", "torch", "system"}


def changed(value, key=""):
    """Return a content with escapes before every free text."""
    if isinstance(value, dict):
        return {name: changed(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [changed(each, key) for each in value]
    return f"{ESCAPES}{value}" if isinstance(value, str) and key in FREE else value


def test_no_text_of_a_file_moves_the_terminal(tmp_path):
    whole = write_every_kind(tmp_path / "whole")
    for path in write_every_kind(tmp_path / f"home{ESCAPES}").rglob("*.json"):
        content = json.loads(path.read_text())
        del content["digest"]
        write_record(path, changed(content))
    home = path.parents[2]
    for arguments in (
        ("report", "--home", home, "--format", "csv"),
        ("report", home / "quick", whole / "quick", "--format", "csv", "--out", home),
        ("report", "--index", home),
        ("compare", whole / "quick", home / "quick"),
        ("compare", home / "quick", home / "absent"),
    ):
        done = commands.call(*arguments)
        said = done.stdout + done.stderr
        assert said and "Traceback" not in said
        assert all(char.isprintable() or char == "\n" for char in said), said


def test_a_name_as_long_as_a_case_may_have_stops_no_format(tmp_path):
    names = ["x" * 200, "x" * 199 + "y"]
    home = write(tmp_path, [record(case(name), "backprop") for name in names])
    done = commands.call("report", "--home", home, "--format", "svg")
    assert done.returncode == 0, done.stderr
    drawn = [path.name for path in (home / "quick" / "report").rglob("*xxx*.svg")]
    assert len(drawn) == 4


LIMITED = """
import resource, os
most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
assert 0 < resource.getrlimit(resource.RLIMIT_DATA)[0] < most
raise RuntimeError("within a limit")
"""


def test_check_limits_the_memory_of_what_it_checks(tmp_path):
    (tmp_path / "mine.py").write_text(LIMITED)
    done = commands.run("check", "mine.py", cwd=tmp_path)
    assert done.returncode == 2 and "within a limit" in done.stderr


@pytest.mark.parametrize("late", ["_prepare", "_carry_out"])
def test_a_dask_worker_that_is_busy_is_out_of_time_and_no_other_machine(tmp_path, late):
    def call(timeout, function, *arguments):
        return Outcome("", *(("timeout", "late") if function.__name__ == late else ()))

    task = Task("score", "one", (TINY, "backprop", Store(tmp_path, "quick")), 1.0)
    worker = mock.Mock(local_directory=str(tmp_path), address="tcp://one")
    with (
        mock.patch.object(cluster, "get_worker", lambda: worker),
        mock.patch.object(cluster._THREAD, "pool", mock.Mock(call=call), create=True),
    ):
        outcome = cluster._fulfill(task, "key", "run", "/", "torch")
    assert outcome == Outcome("", "timeout", "late (Dask worker tcp://one)")
