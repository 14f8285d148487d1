"""What the system refuses (a full disk, a folder that cannot be written to, a name too long): one
line and exit code 2.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from synthetic import CURVES, case, record, write

#: Bytes that a file may have in a process whose disk is to seem full.
LITTLE = 4096


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write(tmp_path_factory.mktemp("home"), [record(case(), next(iter(CURVES)))])


def pudle(*arguments, cwd, full=False):
    limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LITTLE, LITTLE))) if full else None
    command = [sys.executable, "-m", "pudle", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, preexec_fn=limit, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("arguments", "full", "reason"),
    [
        (
            ("report", "--home", "{home}", "--out", "{tmp}/out", "--format", "csv"),
            True,
            "File too large",
        ),
        (
            ("report", "--home", "{home}", "--out", "{tmp}/" + 300 * "x", "--format", "csv"),
            False,
            "File name too long",
        ),
        (
            ("report", "--home", "{home}", "--out", "{tmp}/file/out", "--format", "csv"),
            False,
            "Not a directory",
        ),
        (
            ("report", "--home", "{home}", "--out", "/proc/out", "--format", "csv"),
            False,
            "No such file or directory",
        ),
        (("run", "--home", "{tmp}/file/home", "--scores-only"), False, "Not a directory"),
        (("run", "--home", "{tmp}/" + 300 * "x", "--scores-only"), False, "File name too long"),
        (
            ("run", "--home", "{tmp}/new", "--scores-only", "--case", "sparse*lasso"),
            True,
            "File too large",
        ),
    ],
)
def test_one_line_and_exit_code_2(home, tmp_path, arguments, full, reason):
    (tmp_path / "file").write_text("no folder")
    done = pudle(
        *(text.format(home=home, tmp=tmp_path) for text in arguments), cwd=tmp_path, full=full
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("pudle: error:")]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert len(lines) == 1 and reason in lines[0], done.stderr
    # No part of a file is left where a reader would find it.
    assert not [path for path in tmp_path.rglob("*.tmp")]
