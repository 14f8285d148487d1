"""Who imports whom: the contracts of import-linter in pyproject.toml hold, and of each thing there
is one.
"""

import re
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

#: What only some files may do, and which: a second one would be a second way to do the same.
ONLY_IN = {
    r"\bentry_points\(": {"names.py"},
    r"\bget_close_matches\(": {"names.py"},
    r"\bos\.fork\(": {"workers.py"},
    r"""["']pudle\.(estimators|datasets|bench|reports)\b""": set(),
}


@pytest.fixture
def package(tmp_path):
    """A copy of the sources as they are installed: all of the package lies in one folder."""
    folder = tmp_path / "pudle"
    shutil.copytree(ROOT / "src" / "pudle", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("estimators", "datasets", "bench", "reports"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def lint(package):
    """Return the exit code and the output of import-linter for a copy of the sources."""
    code = (
        "from importlinter.cli import lint_imports\n"
        f"raise SystemExit(lint_imports({str(ROOT / 'pyproject.toml')!r}, no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=package.parent, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_imports_keep_the_order_of_the_rooms_and_form_no_circle(package):
    code, output = lint(package)
    assert code == 0, output


@pytest.mark.parametrize(
    "path, line, broken",
    [
        ("references/lasso.py", "def late():\n    from pudle.measuring import store", "order"),
        ("bench/cases.py", "from pudle.reports.load import load", "order"),
        ("problems/active_set.py", "from .sparse_coding import SparseCoding", "circle"),
        ("references/lasso.py", "import subprocess", "processes"),
    ],
)
def test_a_planted_import_is_caught(path, line, broken, package):
    with (package / path).open("a") as file:
        file.write(f"\n{line}\n")
    code, output = lint(package)
    assert code == 1 and re.search(rf"{broken}.* BROKEN", output), output


@pytest.mark.parametrize("pattern", ONLY_IN)
def test_of_each_thing_there_is_one(pattern):
    core = ROOT / "src" / "pudle"
    users = {
        path.relative_to(core).as_posix()
        for path in core.rglob("*.py")
        if re.search(pattern, path.read_text())
    }
    assert users <= ONLY_IN[pattern]
