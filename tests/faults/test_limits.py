"""Long names, busy workers and greedy estimators: none of them ends or hides anything else."""

from support.processes import commands
from support.records.synthetic import case, record, write


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
