"""Who imports whom: the contracts of import-linter in pyproject.toml hold, and of each thing there
is one.
"""

import re
import shutil
import subprocess
import sys

import pytest
from support.paths import ROOT

#: What only some files may do, and which: a second one would be a second way to do the same.
ONLY_IN = {
    r"\bentry_points\(": {"names/registry.py"},
    r"\bget_close_matches\(": {"names/grammar.py"},
    r"\bos\.fork\(": {"workers.py"},
    r"""["']pudle\.(estimators|datasets|bench|reports)\b""": set(),
}


#: An import that breaks each of the contracts.
PLANTED = {
    "order": ("references/lasso.py", "def late():\n    from pudle.measuring import store"),
    "circle": ("problems/active_set.py", "from .l1 import SparseCoding"),
    "processes": ("bench/cases.py", "import subprocess"),
}


def test_imports_keep_the_contracts_and_planted_ones_are_caught(tmp_path):
    """In a copy of the sources as they are installed: all of the package lies in one folder."""
    package = tmp_path / "pudle"
    for folder, copy in (
        ("src/pudle", package),
        *((name, package / name) for name in ("estimators", "datasets", "bench", "reports")),
    ):
        shutil.copytree(ROOT / folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    settings = str(ROOT / "pyproject.toml")
    code = "from importlinter.cli import lint_imports\n"
    code += f"raise SystemExit(lint_imports({settings!r}, no_cache=True))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for path, line in PLANTED.values():
        with (package / path).open("a") as file:
            file.write(f"\n{line}\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    for name in PLANTED:
        assert re.search(rf"{name}.* BROKEN", done.stdout), done.stdout


@pytest.mark.parametrize("pattern", ONLY_IN)
def test_of_each_thing_there_is_one(pattern):
    core = ROOT / "src" / "pudle"
    users = {
        path.relative_to(core).as_posix()
        for path in core.rglob("*.py")
        if re.search(pattern, path.read_text())
    }
    assert users <= ONLY_IN[pattern]
