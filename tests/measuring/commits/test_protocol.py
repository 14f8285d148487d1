"""`compare --run` speaks with workers of other commits: names, arguments and answers stay as they
were, because a commit of before cannot be changed.
"""

import io
import json
import math
import pickle
import pickletools
import shutil
import subprocess
import tarfile

import pytest
from support.paths import ROOT
from support.processes.commit_of_before import write_commit_of_before

from pudle.errors import PudleError
from pudle.files import write_record
from pudle.measuring.commits import script
from pudle.measuring.commits.pair import CommitSide
from pudle.measuring.selection import Selection
from pudle.workers import Outcome

#: A commit of before, whose worker and functions `support.processes.commit_of_before` copies.
BEFORE = "fda4ce36"
REQUEST = {"profile": "quick", "estimators": ("one_step",), "cases": ("sparse*",), "only": True}


@pytest.fixture
def side(tmp_path):
    """The side of a commit that is installed in a folder of its own."""
    tree, site = tmp_path / "tree", tmp_path / "site"
    tree.mkdir()
    folder = tmp_path / "base" / "quick"
    folder.mkdir(parents=True)
    return CommitSide("base", tree, site, folder)


def test_a_commit_of_before_understands_this_one_and_is_understood(side):
    write_commit_of_before(side.site)
    write_record(side.selection, Selection("quick", (), (), (), ()))
    with side.pool() as pool:
        reasons = side.call(pool, math.inf, script.lacking, REQUEST).result
        assert reasons == {"one_step": "unknown estimator 'one_step'"}
        outcome = side.call(pool, math.inf, script.measure, REQUEST, side.folder.parent)
        assert outcome == Outcome(None, parts=[])
        measured = json.loads((side.folder.parent / "measured.json").read_text())
        assert measured == json.loads(json.dumps(REQUEST))
        # Other commits time so many calls as they are told.
        assert side.timer(pool)(("sparse", "one_step", 50)) == pytest.approx(0.05 + 3)
        with pytest.raises(PudleError, match="base cannot be measured: nothing to measure; "):
            side.call(pool, math.inf, script.measure, {**REQUEST, "cases": ()}, side.folder)


def names_in(message: bytes) -> set[str]:
    """Return the modules and names that are imported where a message is unpickled."""
    operations = [(code.name, argument) for code, argument, _ in pickletools.genops(message)]
    return {argument for name, argument in operations if name == "GLOBAL"}


def test_a_command_of_before_finds_its_names_in_this_commit():
    """The names that it imports, and those in what it sends and gets."""
    from pudle.workers import work  # as its command for a worker does

    assert callable(work)
    for name in ("lacking", "measure", "seconds"):
        function = pickle.loads(f"cpudle.measuring.commits.script\n{name}\n.".encode())
        assert function is getattr(script, name)
    answer = pickle.dumps(Outcome({"a": "b"}, "error", "why", [1]), protocol=2)
    assert names_in(answer) == {"pudle.workers Outcome"}
    assert Outcome._fields == ("result", "status", "reason", "parts")


@pytest.mark.slow
def test_a_real_commit_of_before_carries_out_what_it_is_asked(side):
    archive = ("git", "archive", BEFORE, "src/pudle", "estimators", "datasets", "bench", "reports")
    process = subprocess.run(archive, cwd=ROOT, capture_output=True)
    if process.returncode:
        pytest.skip(f"this checkout does not have commit {BEFORE}")
    with tarfile.open(fileobj=io.BytesIO(process.stdout)) as files:
        files.extractall(side.site, filter="data")
    package = side.site / "pudle"
    shutil.move(side.site / "src" / "pudle", package)
    for room in ("estimators", "datasets", "bench", "reports"):
        shutil.move(side.site / room, package / room)
    with side.pool() as pool:
        request = {**REQUEST, "estimators": ("one_step", "no_such"), "cases": ()}
        reasons = side.call(pool, math.inf, script.lacking, request).result
        assert reasons["no_such"].startswith("unknown estimator 'no_such'")
        assert "one_step" not in reasons
        request = {**request, "estimators": ("no_such",)}
        assert side.call(pool, math.inf, script.measure, request, side.folder.parent).status == "ok"
    # It has none of what was asked for, and measured nothing.
    assert not side.selection.exists()
