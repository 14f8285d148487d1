"""What the system refuses (a full disk, a folder that cannot be written to, a name too long): one
line and exit code 2.
"""

import contextlib
import resource

import pytest
from support.processes.commands import call
from support.records.synthetic import CURVES, case, record, write

#: Bytes that a file may have while the disk is to seem full.
LITTLE = 4096
REPORT = ("report", "--home", "{home}", "--format", "csv", "--out")
RUN = ("run", "--scores-only", "--case", "sparse*lasso", "--home")


@contextlib.contextmanager
def full_disk():
    """Let no file of this process, and of those that it starts, become larger than a little."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LITTLE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write(tmp_path_factory.mktemp("home"), [record(case(), next(iter(CURVES)))])


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ((*REPORT, "{tmp}/out"), "File too large"),
        ((*REPORT, "{tmp}/file/out"), "Not a directory"),
        ((*RUN, "{tmp}/" + 300 * "x"), "File name too long"),
        ((*RUN, "{tmp}/new"), "File too large"),
    ],
)
def test_one_line_and_exit_code_2(home, tmp_path, arguments, reason):
    (tmp_path / "file").write_text("no folder")
    texts = [text.format(home=home, tmp=tmp_path) for text in arguments]
    with full_disk() if reason == "File too large" else contextlib.nullcontext():
        done = call(*texts, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("pudle: error:")]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert len(lines) == 1 and reason in lines[0], done.stderr
    # No part of a file is left where a reader would find it.
    assert not [path for path in tmp_path.rglob("*.tmp")]
