"""Every kind of stored file, damaged in every way: one line names it, the rest is shown, and
nothing is a traceback.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import COMMIT, write_every_kind

import pudle
from pudle.errors import MissingResults, UnreadableResult
from pudle.learning.checkpoint import CHECKPOINT
from pudle.learning.learner import Learner
from pudle.measuring.case import Case
from pudle.measuring.commits.pair import CommitPair
from pudle.measuring.measurement import measure, stored_reference
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.reports.compare.sides import load_commit
from pudle.reports.load import load
from pudle.reports.report import Report

#: What takes the place of each value in turn: other types, numbers out of range, and nesting.
WRONG = (
    None,
    True,
    -1,
    10**30,
    1.5,
    float("inf"),
    "",
    "x",
    "\x00\n",
    [],
    [None],
    [[]],
    {},
    {"x": {}},
    {"x": [1e300]},
)
TINY = Case(
    "tiny",
    "sparse_gaussian(n_samples=8, n_features=6, n_components=8, n_nonzero_coefs=2)",
    "ista",
    "lasso",
    (0,),
    (1,),
)

#: The files of a report: those of one run, by kind.
FILES = {
    "scores": "store/synthetic-ista-lasso/0-*.json",
    "curve": "store/artifacts/*-jacobian_error-*.json",
    "surface": "store/artifacts/*-window_surface-*.json",
    "training": "store/experiments/one-*.json",
    "denoising": "store/experiments/two-*.json",
    "arrays": "store/experiments/two-*.npz",
    "time": "store/synthetic-ista-lasso/costs/seconds-1.json",
    "memory": "store/synthetic-ista-lasso/costs/memory_bytes-1.json",
}


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value in a content; of a list, its first item stands for all."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content[:1])
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(content: Any, path: tuple[Any, ...], *value: Any) -> Any:
    """Return a copy of a content with another value at a path, or without the value that is there."""
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    if value:
        place[path[-1]] = value[0]
    else:
        del place[path[-1]]
    return content


def wrong_contents(whole: bytes) -> Iterator[bytes]:
    """Yield files of the wrong content: a value less, or another value in its place."""
    content = json.loads(whole)
    for path in places(content):
        yield json.dumps(changed(content, path)).encode()
        for value in WRONG:
            yield json.dumps(changed(content, path, value)).encode()


def broken_bytes(whole: bytes, count: int) -> Iterator[bytes]:
    """Yield cut and bit-flipped files, and files that are something else."""
    draw = np.random.default_rng(len(whole))
    for place in draw.integers(0, len(whole), count):
        yield whole[:place]
        yield (
            whole[:place]
            + bytes([whole[place] ^ (1 << int(draw.integers(8)))])
            + whole[place + 1 :]
        )
    yield from (
        b"",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"schema": ' + b"9" * 5000 + b"}",
    )


def damages(whole: bytes, thorough: bool) -> Iterable[bytes]:
    """Return damaged versions of a file: all of them, or a sample."""
    wrong = list(wrong_contents(whole)) if whole[:1] == b"{" else []
    return [
        *broken_bytes(whole, 200 if thorough else 4),
        *(wrong if thorough else wrong[3 :: 1 + len(wrong) // 20]),
    ]


def named(lines: Iterable[str], path: Path) -> None:
    """Check that each line is one line about a file."""
    for line in lines:
        # Damaged arrays are named with the record that they belong to.
        assert str(path.with_suffix("")) in line and len(line.splitlines()) == 1, line


def check_reader(path: Path, read: Callable[[], Any], thorough: bool, least: int) -> None:
    """Check that a reader refuses at least so many damaged versions of a file by name, and takes
    the others.
    """
    whole, refused = path.read_bytes(), 0
    for content in damages(whole, thorough):
        path.write_bytes(content)
        try:
            read()
        except UnreadableResult as error:
            named([str(error)], path)
            refused += 1
    path.write_bytes(whole)
    read()
    assert refused >= least


def check_list(path: Path, read: Callable[[], Any], thorough: bool) -> None:
    """Check the reader of a run's list, which may also say, of a list that is whole but empty, that
    there are no results.
    """

    def read_or_missing() -> None:
        with contextlib.suppress(MissingResults):
            read()

    check_reader(path, read_or_missing, thorough, 10)


@pytest.fixture(
    params=[False, pytest.param(True, marks=pytest.mark.nightly)], ids=["sample", "all"]
)
def thorough(request):
    return request.param


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A home with a file of every kind that a report reads."""
    return write_every_kind(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize("kind", FILES)
def test_a_report_names_the_damaged_file_and_shows_the_rest(results, kind, thorough):
    (path,) = (results / "quick").glob(FILES[kind])
    whole, refused, accepted = path.read_bytes(), 0, []
    for content in damages(whole, thorough):
        path.write_bytes(content)
        read = load(results, "quick")
        named(read.damaged, path)
        refused += bool(read.damaged)
        # Whatever is damaged, nothing else is missing.
        assert len(read.experiments) + len(read.artifacts) + len(read.provenances) >= 3
        accepted += [] if read.damaged else [read]
    path.write_bytes(whole)
    assert refused > 8
    # A content that passes for a good one must not break the page.
    for read in accepted[:: 10 if thorough else 1 + len(accepted)]:
        report = Report.of(read)
        report.latex(), report.csv()
        if thorough:
            report.markdown()


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_killed_run_lacks_the_rest_is_shown(results, seed, tmp_path):
    """A run that is killed has any of its files, and lists them all."""
    home = shutil.copytree(results, tmp_path / "home")
    draw = random.Random(seed)
    paths = sorted((home / "quick" / "store").rglob("*.json"))
    # Costs come last: with the first seeds there are none yet.
    lost = [path for path in paths if (seed < 3 and "costs" in path.parts) or draw.random() < 0.3]
    for path in lost:
        path.unlink()
    read = load(home, "quick")
    assert read.damaged == () and not Report.of(read).csv().isspace()
    records = len(
        [path for path in paths if path.parent.name.endswith("lasso") and path not in lost]
    )
    assert (read.records["status"] == "ok").sum() == records or not records


def test_a_run_measures_what_is_damaged_again(tmp_path, thorough):
    store = Store(tmp_path, "quick")
    measure(TINY, "alternating", store)
    for path in (store.path(TINY, "alternating"), store.reference_path(TINY, 0, "exact")):
        for content in damages(path.read_bytes(), thorough):
            path.write_bytes(content)
            stored = store.read(TINY, "alternating")
            assert stored is None or stored["status"] in pudle.measuring.statuses.STATUSES
            reference = stored_reference(TINY, 0, "exact", store)
            assert reference.gradient.dtype == torch.float64 and isinstance(reference.bound, float)
        path.unlink()
        measure(TINY, "alternating", store)


def test_selections_and_lists_of_a_run(tmp_path, results, thorough):
    path = tmp_path / "selection.json"
    Selection("quick", (TINY,), ("backprop",), (1,), (1,)).write(path)
    check_reader(path, lambda: Selection.read(path), thorough, 15)
    last, runs = results / "quick" / "run.json", results / "quick" / "runs" / f"{COMMIT}.json"
    runs.parent.mkdir(exist_ok=True)
    runs.write_bytes(last.read_bytes())
    check_list(last, lambda: load(results, "quick"), thorough)
    check_list(runs, lambda: load_commit(COMMIT, "main", results, "quick"), thorough)
    pair = CommitPair(tmp_path, "a" * 40, "b" * 40, "quick")
    pair.rounds_path.parent.mkdir(parents=True)
    row = {
        "case": "one",
        "estimator": "backprop",
        "depth": 3,
        "round": 0,
        "reason": "",
        "base": 1.0,
        "head": None,
    }
    pair.rounds_path.write_text(json.dumps({"rounds": [row]}))
    check_reader(pair.rounds_path, pair.rounds, thorough, 15)


def test_checkpoints(tmp_path, thorough):
    problem = TINY.make_problem(0)
    learner = Learner("alternating", "ista", 1, epochs=1)
    learner.fit(problem, folder=tmp_path)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    check_reader(path, lambda: learner.fit(problem, folder=tmp_path, resume=True), thorough, 13)
    # Contents that are whole but wrong, as another program would write them.
    content = torch.load(io.BytesIO(whole.partition(b"\n")[2]), weights_only=True)
    for key in content:
        for value in ({}, None, torch.zeros(3)):
            buffer = io.BytesIO()
            torch.save(content | {key: value}, buffer)
            path.write_bytes(buffer.getvalue())
            with pytest.raises(UnreadableResult, match="delete it and start again") as caught:
                learner.fit(problem, folder=tmp_path, resume=True)
            named([str(caught.value)], path)
