"""Long names, busy workers and greedy estimators: none of them ends or hides anything else."""

from unittest import mock

import commands
import pytest
from examples import TINY
from synthetic import case, record, write

from pudle.measuring.runner import Task
from pudle.measuring.store import Store
from pudle.workers import Outcome


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
    pytest.importorskip("distributed", reason="install pudle[scale]")
    from pudle.measuring import cluster

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
