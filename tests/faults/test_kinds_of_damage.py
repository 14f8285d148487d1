"""Every kind of stored file with every kind of damage: one line names the file, and all else is
shown; a run measures again what is damaged.
"""

import contextlib
import ctypes
import functools
import json
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.problems.small_problems import TINY, selected
from support.processes import commands
from support.processes.repositories import git, repository
from support.records.synthetic import CURVES, case, edit, record, scores, write, write_every_kind

from pudle.errors import UnreadableResult, UnwritableFile
from pudle.files import read_arrays, read_record, write_record
from pudle.learning.checkpoint import CHECKPOINT
from pudle.learning.learner import Learner
from pudle.measuring.commits.pair import CommitPair
from pudle.measuring.results.cost import CostRecord, EstimateCost
from pudle.measuring.results.reference import CaseReference
from pudle.measuring.results.score import ScoreRecord, Scores
from pudle.measuring.run import Run
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.measuring.stored_files import CommitRounds, Round
from pudle.reports.load import ShownExperiment, load
from pudle.reports.report import Report

NAME = "synthetic-ista-lasso"
#: The files that a report reads, what each of them shows, and another file of the same kind.
SHOWN = {
    "scores": (f"{NAME}/0-*.json", ("scores", NAME, "alternating"), f"{NAME}/1-*.json"),
    "training": ("experiments/one-*.json", ("one",), "experiments/two-*.json"),
    "arrays": ("experiments/two-*.npz", ("two",), "experiments/three-*.npz"),
    "time": (
        f"{NAME}/costs/seconds-1.json",
        ("seconds", NAME, "alternating", 200),
        f"{NAME}/costs/memory_bytes-1.json",
    ),
}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def in_its_place(make):
    def replace(path):
        path.unlink()
        make(path)

    return replace


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path: path.write_bytes(b"neither JSON nor arrays\n"),
    "nested": lambda path: path.write_bytes(b"[" * 100_000),
    "no permission": lambda path: path.chmod(0),
    "a folder in its place": in_its_place(lambda path: path.mkdir()),
    "a pipe in its place": in_its_place(os.mkfifo),
    "a link to itself": in_its_place(lambda path: path.symlink_to(path.name)),
}
#: What only files with a digest, and records, have.
DIGESTED = DAMAGES | {"a bit flipped": flip}
RECORDS = DIGESTED | {
    "another version": lambda path: edit(path, schema=2),
    "no digest": lambda path: path.write_text(
        json.dumps(json.loads(path.read_text()) | {"digest": 0})
    ),
}


def table(kinds):
    """Return every kind with each of its damages, as parameters of a test.

    Every kind and every damage run every time; all pairs run every night.
    """
    seen = set()
    parameters = []
    for row, (name, damages) in enumerate(kinds.items()):
        for column, damage in enumerate(damages):
            marks = () if damage not in seen or (row + column) % 5 == 0 else pytest.mark.nightly
            title = getattr(name, "__name__", name)
            parameters.append(pytest.param(name, damage, id=f"{title}: {damage}", marks=marks))
            seen.add(damage)
    return parameters


@contextlib.contextmanager
def bound_by_permissions():
    """Let permissions bind this thread also where it belongs to root: without two capabilities, on
    Linux.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "capset"):
        yield
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, without = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    without[:] = before
    # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of those that are in effect.
    without[0] &= ~0b110
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def check_line(line, path):
    """Check that a line names a file, says what is wrong with it, and what to do."""
    # Damaged arrays are named with the record that they belong to.
    assert str(path.with_suffix("")) in line and len(line.splitlines()) == 1, line
    assert "delete " in line, line


def pudle(*arguments):
    """Call the program, bound by permissions, and return the lines that it writes to stderr; its
    exit code is 2.
    """
    with bound_by_permissions():
        done = commands.call(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.stderr.splitlines()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_every_kind(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def home(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "home")


def shown(home):
    """Return what a report shows: scores, times and memory with a value, and experiments."""
    with bound_by_permissions():
        read = load(home, "quick")
    measured = read.frame[read.frame["status"].eq("ok")]
    costs = measured[measured["metric"].isin(["seconds", "memory_bytes"])]
    scored = [record for record in read.records if record.status == "ok"]
    return {
        *(("scores", record.case.name, record.estimator) for record in scored),
        *costs[["metric", "case", "estimator", "depth"]].itertuples(index=False, name=None),
        *((item.name,) for item in read.experiments),
    }


KINDS = dict.fromkeys(SHOWN, RECORDS | {"of another": None})
KINDS["arrays"] = DIGESTED | {"missing": Path.unlink, "of another": None}


@pytest.mark.parametrize("name, damage", table(KINDS))
def test_a_report_names_the_file_and_shows_all_else(whole, home, name, damage):
    store, (pattern, shows, other) = home / "quick" / "store", SHOWN[name]
    (path,) = store.glob(pattern)
    if damage == "of another":
        shutil.copy(next(store.glob(other)), path)
    else:
        KINDS[name][damage](path)
    lines = pudle("report", "--home", home, "--format", "csv,markdown")
    # Beside it stands at most that what the file held is still to be measured.
    (line,) = [line for line in lines if not line.startswith("This run is unfinished")]
    assert line.startswith("left out: ")
    check_line(line, path)
    assert shown(whole) - shown(home) == {shows} and not shown(home) - shown(whole)
    assert "Damaged and left out" in (home / "quick" / "report" / "report.md").read_text()


def test_a_folder_that_cannot_be_read_hides_nothing_silently(home):
    store = home / "quick" / "store"
    for folder, lost in (("experiments", 3), (f"{NAME}/costs", 8)):
        (store / folder).chmod(0)
        lines = pudle("report", "--home", home, "--format", "csv")
        named = [line for line in lines if line.startswith("left out: ")]
        assert len(named) == lost and all(str(store / folder) in line for line in named)
        (store / folder).chmod(0o755)


def leaves(content):
    """Yield what is neither a mapping nor a list in a record, of lists in the first item, as what
    it stands in and its key there.
    """
    for key in content if isinstance(content, dict) else range(len(content[:1])):
        inner = isinstance(content[key], dict | list)
        yield from leaves(content[key]) if inner else [(content, key)]


TYPES = {"scores": ScoreRecord, "training": ShownExperiment, "time": CostRecord}


@pytest.mark.parametrize("name", TYPES)
def test_no_value_of_a_field_costs_the_rest_of_a_report(home, name):
    """One of a wrong type is refused with its record; whatever else it holds can be shown."""
    (path,) = (home / "quick" / "store").glob(SHOWN[name][0])
    identity, record = TYPES[name].read(path).identity, json.loads(path.read_text())
    del record["digest"]
    if name == "scores":
        # Names that columns have for other rows.
        record["scores"][0]["seconds"] = record["references"][0]["case"] = []
    for within, key in leaves(record):
        for odd in ([], None, 1e308, "\x1b\u202e$\\y{$", 2**63 - 1, 10**400, -1):
            kept, within[key] = within[key], odd
            write_record(path, record)
            try:
                TYPES[name].read(path, identity)
            except UnreadableResult:
                within[key] = kept
    write_record(path, record)
    report = Report(load(home, "quick"))
    texts = report.markdown() + report.csv()
    assert not report.results.damaged and "".join(texts.split()).isprintable()


IMPOSSIBLE = {
    "scores": [("scores", "relative_error", -0.5), ("scores", "relative_error", 1e308)]
    + [("scores", "support_error", 1.5), ("references", "bound", -1e-12)]
    + [("references", "rho", 2.0)],
    "time": [("", "value", -1.0), ("", "value", 1e308), ("", "baseline", -1.0)],
}


@pytest.mark.parametrize(
    "name, place, field, value", [(name, *each) for name in IMPOSSIBLE for each in IMPOSSIBLE[name]]
)
def test_a_value_that_cannot_be_costs_its_record_alone(whole, home, name, place, field, value):
    pattern, shows, _ = SHOWN[name]
    (path,) = (home / "quick" / "store").glob(pattern)
    record = json.loads(path.read_text())
    (record[place][0] if place else record)[field] = value
    del record["digest"]
    write_record(path, record)
    (line,) = load(home, "quick").damaged
    assert str(path) in line and field in line
    assert shown(whole) - shown(home) == {shows}


def test_a_record_of_very_many_depths_is_read_in_time_in_proportion(tmp_path):
    """A look at all depths for each of them would take ten seconds."""
    depths = range(1, 20_001)
    long = case(depths=[*depths], seeds=[0])
    rows = scores(CURVES["backprop"], depths=depths, seeds=[0])
    write(tmp_path, [record(long, "backprop", scores=rows)])
    read, start = load(tmp_path, "quick"), time.process_time()
    assert len(Report(read).summary[0].measured.errors.depths) == len(depths)
    assert time.process_time() - start < 4


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_killed_run_lacks_the_rest_is_shown(home, seed):
    """A run that is killed has any of its files, and lists them all."""
    draw = random.Random(seed)
    paths = sorted((home / "quick" / "store").rglob("*.json"))
    # Costs come last: with the first seed there are none yet.
    lost = [path for path in paths if (not seed and "costs" in path.parts) or draw.random() < 0.3]
    for path in lost:
        path.unlink()
    read = load(home, "quick")
    assert not read.damaged and not Report(read).csv().isspace()
    scored = [path for path in paths if path.parent.name == NAME and path not in lost]
    shown_scores = [record for record in read.records if record.status == "ok"]
    assert len(shown_scores) == len(scored) or not scored


LISTS = ("the list of a run", "the list of a commit")


@pytest.mark.parametrize("name, damage", table(dict.fromkeys(LISTS, RECORDS)))
def test_a_damaged_list_is_named_and_hides_no_other_result(whole, home, monkeypatch, name, damage):
    commit = git(repository(home), "rev-parse", "HEAD")
    last, of_commit = home / "quick" / "run.json", home / "quick" / "runs" / f"{commit}.json"
    of_commit.parent.mkdir()
    shutil.copy(last, of_commit)
    edit(of_commit, commit=commit)
    monkeypatch.chdir(home)
    path, beside = (last, home / "quick") if name == LISTS[0] else (of_commit, commit)
    RECORDS[damage](path)
    out = home / "out"
    options = ["--home", home, "--out", out]
    (line,) = pudle("report", beside, whole / "quick", *options)
    assert line.startswith("left out: ")
    check_line(line, path)
    assert NAME in (out / "report.html").read_text()
    # Alone, nothing is left to show.
    (line,) = pudle("report", *([commit] if path is of_commit else []), "--home", home)
    assert line.startswith("pudle: error: ")
    check_line(line, path)


# -- files that one command reads


def selection(folder):
    path = folder / "selection.json"
    write_record(path, selected("backprop"))
    return path, lambda: read_record(path, Selection), "run `pudle run` again"


def rounds(folder):
    pair = CommitPair(folder, "a" * 40, "b" * 40, "quick")
    row = Round(case="one", estimator="backprop", depth=3, base=1.0)
    CommitRounds(rounds=[row]).write(pair.rounds_path)
    return pair.rounds_path, pair.read, "run `pudle compare --run` again"


def checkpoint(folder):
    problem, learner = TINY.make_problem(0), Learner("alternating", "ista", 1, epochs=1)
    learner.fit(problem, folder=folder)
    read = functools.partial(learner.fit, problem, folder=folder, resume=True)
    return folder / CHECKPOINT, read, "delete it and start again"


#: A selection has no version.
SINGLE = {
    selection: DIGESTED,
    rounds: RECORDS,
    checkpoint: DIGESTED
    | {"another version": lambda path: path.write_bytes(b"pudle checkpoint 0 x\n")},
}


@pytest.mark.parametrize("make, damage", table(SINGLE))
def test_a_single_file_is_named(tmp_path, make, damage):
    path, read, remedy = make(tmp_path)
    read()
    SINGLE[make][damage](path)
    with pytest.raises(UnreadableResult) as caught, bound_by_permissions():
        read()
    check_line(str(caught.value), path)
    assert str(caught.value).endswith(remedy)


# -- what a run measures again


CHOSEN = selected("alternating", costs=("seconds",))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A store with the scores, references and times of one case."""
    store = Store(tmp_path_factory.mktemp("measured"), "quick")
    Scores(TINY, "alternating").measure(store)
    EstimateCost("seconds", TINY, "alternating", 1).write(store, value=1.0, samples=[1.0])
    return store.folder


@pytest.fixture
def store(measured, tmp_path):
    return Store(shutil.copytree(measured, tmp_path / "store"), "quick")


@pytest.mark.parametrize("kind, damage", table(dict.fromkeys((Scores, EstimateCost), RECORDS)))
def test_a_run_measures_again_what_is_damaged(store, kind, damage):
    run = Run(CHOSEN, store)
    assert not any(map(run.is_missing, run.results))
    (damaged,) = (each for each in run.results if isinstance(each, kind))
    RECORDS[damage](run.place(damaged).path)
    with bound_by_permissions():
        run = Run(CHOSEN, store)
        missing = [*filter(run.is_missing, run.results)]
    assert missing == [damaged]


def of_another_seed(path):
    shutil.copy(next(other for other in path.parent.iterdir() if other != path), path)


REFERENCES = DAMAGES | {"missing": Path.unlink, "of another": of_another_seed}


@pytest.mark.parametrize("name, damage", table({"reference": REFERENCES}))
def test_a_damaged_reference_is_computed_again(store, name, damage):
    reference = CaseReference(TINY, 0, "exact")
    path, stored = store.place(reference).path, reference.read(store)
    REFERENCES[damage](path)
    with bound_by_permissions():
        if damage == "a folder in its place":
            with pytest.raises(UnwritableFile, match=path.name):
                reference.measure(store)
            return
        computed, kept = reference.measure(store), reference.read(store)
    assert torch.equal(computed.gradient, stored.gradient) and computed.bound == stored.bound
    assert kept is not None and torch.equal(kept.gradient, stored.gradient)


def test_damaged_arrays_end_in_one_line(tmp_path):
    """Wherever a byte is changed: in names, sizes, flags, or the compressed stream; some changes go
    unnoticed.
    """
    path = tmp_path / "arrays.npz"
    np.savez_compressed(path, values=np.random.default_rng(0).standard_normal(40))
    content, refused = path.read_bytes(), 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            read_arrays(path, ["values"])
        except UnreadableResult as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > len(content) // 2
