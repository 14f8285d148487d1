"""A table of every kind of stored file with every kind of damage: one line names the file, and all
else is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from examples import TINY
from repositories import git
from synthetic import COMMIT, case, write_every_kind

from pudle import cli
from pudle.errors import InvalidArgument, UnreadableResult, UnwritableFile
from pudle.learning.checkpoint import CHECKPOINT
from pudle.learning.learner import Learner
from pudle.measuring.commits.pair import CommitPair, timed_cells
from pudle.measuring.contents import SCHEMA
from pudle.measuring.costs import cells
from pudle.measuring.measurement import measure, stored_reference
from pudle.measuring.run import has_history
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.measuring.survey import survey
from pudle.reports.leaderboard.submission import MANIFEST, read_submission
from pudle.reports.load import load

NAME = case()["name"]
Place = tuple[str | int, ...]


class Kind(NamedTuple):
    """A kind of JSON file: where it lies, and the places in it of values that damages change.

    Those are a value that may not lack, one that may not be text, a number that may not be
    negative, and the name of what the file holds; an empty place says that the file has none.
    """

    file: str
    needed: Place
    typed: Place
    number: Place = ()
    name: Place = ()


#: The files that a report reads, but for the list of them.
SHOWN = {
    "scores": Kind(
        f"store/{NAME}/0-*.json",
        ("scores", 0, "relative_error"),
        ("scores", 0, "depth"),
        ("scores", 0, "relative_error"),
        ("case", "name"),
    ),
    "curve": Kind(
        "store/artifacts/*-jacobian_error-*",
        ("rows", 0, "relative_error"),
        ("rows", 0, "depth"),
        ("rows", 0, "relative_error"),
        ("case",),
    ),
    "surface": Kind(
        "store/artifacts/*-window_surface-*",
        ("rows", 0, "window"),
        ("rows", 0, "window"),
        ("rows", 0, "relative_error"),
        ("case",),
    ),
    "training": Kind(
        "store/experiments/one-*.json", ("rows",), ("options",), ("rows", 0, "step"), ("name",)
    ),
    "denoising": Kind(
        "store/experiments/two-*.json",
        ("summary",),
        ("provenance",),
        ("options", "depth"),
        ("name",),
    ),
    "interpretation": Kind(
        "store/experiments/three-*.json", ("arrays",), ("rows",), ("options", "depth"), ("name",)
    ),
    "time": Kind(
        f"store/{NAME}/costs/seconds-1.json",
        ("value",),
        ("samples",),
        ("samples", 0),
        ("estimator",),
    ),
    "memory": Kind(
        f"store/{NAME}/costs/memory_bytes-1.json", ("status",), ("value",), ("depth",), ("metric",)
    ),
}
#: What each of them shows.
SHOWS = {
    "scores": ("scores", NAME, "alternating"),
    "curve": ("jacobian_error", NAME),
    "surface": ("window_surface", NAME),
    "training": ("one",),
    "denoising": ("two",),
    "interpretation": ("three",),
    "time": ("seconds", NAME, "alternating", 200),
    "memory": ("memory_bytes", NAME, "alternating", 200),
}


# -- damages


def write(content: bytes) -> Callable[[Path, Any], None]:
    return lambda path, _: path.write_bytes(content) and None


def cut(path: Path, _: Any) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, _: Any) -> None:
    # The highest bit, which no letter of these files has: another may make a number another one,
    # which no reader can know.
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)


def change(path: Path, place: Place, *value: Any) -> None:
    """Put a value in a place, or remove the value that is there."""
    content = json.loads(path.read_bytes())
    inner = functools.reduce(lambda item, key: item[key], place[:-1], content)
    if value:
        inner[place[-1]] = value[0]
    else:
        del inner[place[-1]]
    path.write_text(json.dumps(content))


def forbid(path: Path, _: Any) -> None:
    path.chmod(0)


def make_folder(path: Path, _: Any) -> None:
    path.unlink()
    path.mkdir()


def link(target: str) -> Callable[[Path, Any], None]:
    def replace(path: Path, _: Any) -> None:
        path.unlink()
        path.symlink_to(target.format(name=path.name))

    return replace


#: What can happen to any file.
ANY: dict[str, Callable[[Path, Any], None]] = {
    "empty": write(b""),
    "cut": cut,
    "a bit flipped": flip,
    "text": write(b"neither JSON nor arrays\n"),
    "no permission": forbid,
    "a folder in its place": make_folder,
    "a link to nothing": link("nothing"),
    "a link to itself": link("{name}"),
}
#: What can happen to JSON.
JSON: dict[str, Callable[[Path, Kind], None]] = ANY | {
    "another JSON": write(b"[1, 2]"),
    "an empty object": write(b"{}"),
    "nested too deep": write(b"[" * 100_000),
    "a value missing": lambda path, kind: change(path, kind.needed),
    "a value of another type": lambda path, kind: change(path, kind.typed, "text"),
    "a number out of range": lambda path, kind: change(path, kind.number, -1),
    "a number not finite": lambda path, kind: change(path, kind.number, float("nan")),
    "another version": lambda path, kind: change(path, ("schema",), SCHEMA + 1),
    "of another case": lambda path, kind: change(path, kind.name, "another"),
}


def with_arrays(
    update: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
) -> Callable[[Path, Any], None]:
    def rewrite(path: Path, _: Any) -> None:
        with np.load(path) as stored:
            arrays = dict(stored)
        np.savez_compressed(path, **update(arrays))

    return rewrite


#: What can happen to arrays.
ARRAYS: dict[str, Callable[[Path, Any], None]] = ANY | {
    "missing": lambda path, _: path.unlink(),
    "no arrays": with_arrays(lambda arrays: {}),
    "an array missing": with_arrays(lambda arrays: dict(list(arrays.items())[1:])),
    "an array of another type": with_arrays(
        lambda arrays: arrays | {min(arrays): np.array("text")}
    ),
    "an array of another shape": with_arrays(
        lambda arrays: arrays | {min(arrays): arrays[min(arrays)][:-1]}
    ),
    "of another case": with_arrays(
        lambda arrays: {name: array[..., :-1, None] for name, array in arrays.items()}
    ),
}


def of(kind: Kind) -> list[str]:
    """Return the damages of a kind: a file without a schema, a number or a name cannot have a wrong
    one.
    """
    lacks = (
        {"another version"}
        if kind.file.startswith("store/artifacts") or not kind.file.startswith("store")
        else set()
    )
    lacks |= set() if kind.number else {"a number out of range", "a number not finite"}
    return [
        name for name in JSON if name not in lacks | (set() if kind.name else {"of another case"})
    ]


def table(rows: dict[str, Any]) -> Any:
    """Return every row with each of its damages, as parameters of a test.

    Some of them run every time, every row and every damage among them; all of them run every night.
    """
    seen: set[str] = set()
    parameters = []
    for row, (name, damages) in enumerate(rows.items()):
        for column, damage in enumerate(damages):
            marks = () if damage not in seen or (row + column) % 5 == 0 else pytest.mark.nightly
            parameters.append(pytest.param(name, damage, id=f"{name}: {damage}", marks=marks))
            seen.add(damage)
    return parameters


# -- helpers


@contextlib.contextmanager
def bound_by_permissions() -> Iterator[None]:
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


@pytest.fixture
def pudle(monkeypatch, capfd):
    """Call the program in this process, bound by permissions; return its exit code and the lines of
    both outputs.
    """

    def call(*arguments: Any) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["pudle", *map(str, arguments)])
        with bound_by_permissions():
            code = cli.run()
        output, errors = capfd.readouterr()
        assert "Traceback" not in output + errors, errors
        return code, output.splitlines(), errors.splitlines()

    return call


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_every_kind(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def home(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "home")


def check_line(line: str, path: Path) -> None:
    """Check that a line names a file, says what is wrong with it, and what to do."""
    # Damaged arrays are named with the record that they belong to.
    assert str(path.with_suffix("")) in line, line
    assert any(
        word in line
        for word in (
            "cannot be read (",
            "is not what this version of pudle reads (",
            "holds ",
            "lacks ",
            "cannot show the array",
        )
    ), line
    assert "delete " in line or "run `pudle submit` again" in line, line


def shown(home: Path) -> set[tuple[Any, ...]]:
    """Return what a report shows: scores, times and memory with a value, curves and surfaces, and
    experiments.
    """
    with bound_by_permissions():
        read = load(home, "quick")
    measured = read.frame[read.frame["status"].eq("ok")]
    costs = measured[measured["metric"].isin(["seconds", "memory_bytes"])]
    found: set[tuple[Any, ...]] = {
        ("scores", *row)
        for row in read.records[read.records["status"] == "ok"][["case", "estimator"]].values
    }
    found |= set(costs[["metric", "case", "estimator", "depth"]].itertuples(index=False, name=None))
    found |= {(item["kind"], item["case"]) for item in read.artifacts}
    return found | {(item.name,) for item in read.experiments}


# -- reports


ROWS = {name: of(kind) for name, kind in SHOWN.items()}
ROWS |= {f"{name}'s arrays": list(ARRAYS) for name in ("denoising", "interpretation")}


@pytest.mark.parametrize(("name", "damage"), table(ROWS))
def test_a_report_names_the_file_and_shows_all_else(pudle, whole, home, name, damage):
    record = name.removesuffix("'s arrays")
    (path,) = (home / "quick").glob(SHOWN[record].file)
    path = path if record == name else path.with_suffix(".npz")
    (JSON if record == name else ARRAYS)[damage](path, SHOWN[record])
    code, _, errors = pudle("report", "--home", home, "--format", "csv,markdown")
    assert code == 2
    # Beside it stands at most that what the file held is still to be measured.
    (line,) = [line for line in errors if not line.startswith("This run is unfinished")]
    assert line.startswith("left out: ")
    check_line(line, path)
    assert shown(whole) - shown(home) == {SHOWS[record]} and not shown(home) - shown(whole)
    assert "Damaged and left out" in (home / "quick" / "report" / "report.md").read_text()


# -- lists of what a run holds, and other files that one command reads


@pytest.fixture
def listed(home, monkeypatch):
    """The commit of a repository, whose results lie beside those of another folder."""
    git(home, "init", "-q")
    git(home, "commit", "-q", "--allow-empty", "-m", "first")
    commit = git(home, "rev-parse", "HEAD")
    content = json.loads((home / "quick" / "run.json").read_text())
    (home / "quick" / "runs").mkdir()
    (home / "quick" / "runs" / f"{commit}.json").write_text(
        json.dumps(content | {"commit": commit})
    )
    monkeypatch.chdir(home)
    return home


LIST = Kind(
    "run.json", ("commit",), ("records",), ("selection", "cases", 0, "seeds", 0), ("commit",)
)
LISTS = {"the list of a run": of(LIST._replace(name=())), "the list of a commit": of(LIST)}


@pytest.mark.parametrize(("name", "damage"), table(LISTS))
def test_a_damaged_list_is_named_and_hides_no_other_result(pudle, whole, listed, name, damage):
    ofcommit = name == "the list of a commit"
    (path,) = (
        (listed / "quick" / "runs").glob("*.json") if ofcommit else [listed / "quick" / "run.json"]
    )
    JSON[damage](path, LIST)
    beside = path.stem if ofcommit else listed / "quick"
    code, _, errors = pudle(
        "report", beside, whole / "quick", "--home", listed, "--out", listed / "out"
    )
    assert code == 2 and len(errors) == 1 and errors[0].startswith("left out: ")
    check_line(errors[0], path)
    assert (listed / "out" / "report.html").stat().st_size > 10_000
    # Alone, nothing is left to show.
    code, _, errors = pudle("report", *([beside] if ofcommit else []), "--home", listed)
    assert code == 2 and len(errors) == 1 and errors[0].startswith("pudle: error: ")
    check_line(errors[0], path)


@pytest.mark.parametrize(
    ("name", "damage"), table({"the list of a run": of(LIST._replace(name=()))})
)
def test_the_index_names_a_damaged_list_and_shows_all_others(pudle, whole, home, name, damage):
    JSON[damage](home / "quick" / "run.json", LIST)
    code, _, errors = pudle("report", "--index", home, whole, "--out", home)
    assert code == 2 and len(errors) == 1
    check_line(errors[0], home / "quick" / "run.json")
    page = (home / "index.html").read_text()
    assert str(home / "quick" / "run.json") in page and page.count('<th scope="row">') == 2


SINGLE = {
    "selection": Kind("selection.json", ("cases",), ("estimators",), ("cases", 0, "seeds", 0)),
    "times of two commits": Kind(
        "rounds.json", ("rounds",), ("rounds", 0, "depth"), ("rounds", 0, "depth")
    ),
    "manifest of a submission": Kind(MANIFEST, ("files",), ("machine",), (), ("name",)),
}


@pytest.mark.parametrize(
    ("name", "damage"), table({name: of(kind) for name, kind in SINGLE.items()})
)
def test_a_single_file_is_named(tmp_path, name, damage):
    path, read = single(name, tmp_path)
    read()
    JSON[damage](path, SINGLE[name])
    with pytest.raises(UnreadableResult) as caught, bound_by_permissions():
        read()
    assert len(str(caught.value).splitlines()) == 1
    if (name, damage) == ("manifest of a submission", "of another case"):
        assert str(caught.value) == "mine: the folder must be called as its estimator, 'another'"
    else:
        check_line(str(caught.value), path)
        remedy = {
            "selection": "run",
            "times of two commits": "compare --run",
            "manifest of a submission": "submit",
        }[name]
        assert str(caught.value).endswith(f"run `pudle {remedy}` again")


def single(name: str, folder: Path) -> tuple[Path, Callable[[], Any]]:
    """Write a file and return it with its reader."""
    if name == "selection":
        Selection("quick", (TINY,), ("backprop",), (1,), (1,)).write(folder / "selection.json")
        return folder / "selection.json", lambda: (
            timed_cells(folder),
            Selection.read(folder / "selection.json"),
        )
    if name == "times of two commits":
        pair = CommitPair(folder, "a" * 40, "b" * 40, "quick")
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
        return pair.rounds_path, pair.rounds
    path = folder / "mine" / MANIFEST
    path.parent.mkdir()
    manifest = dict.fromkeys(("computes", "signed_off_by", "statement", "pudle", "date"), "")
    path.write_text(
        json.dumps(
            manifest | {"name": "mine", "spec": "estimator.py:Mine", "machine": {}, "files": {}}
        )
    )
    return path, lambda: read_submission(path.parent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    Learner("alternating", "ista", 1, epochs=1).fit(TINY.make_problem(0), folder=folder)
    return folder


def of_another_training(path: Path, _: Any) -> None:
    Learner("alternating", "ista", 2, epochs=1).fit(
        TINY.make_problem(0), folder=path.parent / "another"
    )
    shutil.copy(path.parent / "another" / CHECKPOINT, path)


CHECKPOINTS = ANY | {
    "of another case": of_another_training,
    "another version": write(b"pudle checkpoint 0 x\n"),
}


@pytest.mark.parametrize(("name", "damage"), table({"checkpoint": list(CHECKPOINTS)}))
def test_a_checkpoint_is_named(trained, tmp_path, name, damage):
    folder = shutil.copytree(trained, tmp_path / "training")
    CHECKPOINTS[damage](folder / CHECKPOINT, None)
    with pytest.raises((UnreadableResult, InvalidArgument)) as caught, bound_by_permissions():
        Learner("alternating", "ista", 1, epochs=1).fit(
            TINY.make_problem(0), folder=folder, resume=True
        )
    line = str(caught.value)
    assert str(folder) in line and len(line.splitlines()) == 1
    assert (
        "give another folder" if damage == "of another case" else "delete it and start again"
    ) in line


# -- what a run measures again


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A store with the scores, references and times of one case, and one of asv's results."""
    store = Store(tmp_path_factory.mktemp("measured"), "quick")
    measure(TINY, "alternating", store)
    for cell in cells(SELECTION):
        store.write_cost(cell, {"status": "ok", "reason": "", "value": 1.0, "samples": [1.0]})
    store.write_artifact("curve", TINY, (), [{"depth": 1, "relative_error": 0.5}], "")
    asv = store.folder / "results" / "here" / f"{COMMIT[:8]}-existing.json"
    asv.parent.mkdir(parents=True)
    asv.write_text(json.dumps({"commit_hash": COMMIT, "results": {}}))
    return store.folder


SELECTION = Selection("quick", (TINY,), ("alternating",), (1,), (1,), costs=("seconds",))
AGAIN = {
    "scores": SHOWN["scores"],
    "time": SHOWN["time"],
    "artifact": Kind("store/artifacts/", ("rows",), ("seed",), ("seed",), ("key",)),
    "asv's results": Kind("results", ("results",), ("results",), (), ("commit_hash",)),
}


@pytest.mark.parametrize(
    ("name", "damage"), table({name: of(kind) for name, kind in AGAIN.items()})
)
def test_a_run_measures_again_what_is_damaged(measured, tmp_path, name, damage):
    store = Store(shutil.copytree(measured, tmp_path / "store"), "quick")
    (cell,) = cells(SELECTION)
    path, there = {
        "scores": (
            store.path(TINY, "alternating"),
            lambda: not survey(SELECTION, store).scores["tiny", "alternating"].missing,
        ),
        "time": (store.cost_path(cell), lambda: not survey(SELECTION, store).costs[cell].missing),
        "artifact": (
            store.artifact_place("curve", TINY, ())[0],
            lambda: store.has_artifact("curve", TINY, ()),
        ),
        "asv's results": (
            next(store.folder.glob("results/*/*")),
            lambda: has_history(store.folder, COMMIT),
        ),
    }[name]
    assert there()
    JSON[damage](path, AGAIN[name])
    with bound_by_permissions():
        assert not there()


def of_another_seed(path: Path, store: Store) -> None:
    shutil.copy(store.reference_path(TINY, 1, "exact"), path)


REFERENCES = ANY | {name: ARRAYS[name] for name in ("missing", "no arrays", "an array missing")}
REFERENCES |= {"of another seed": of_another_seed}


@pytest.mark.parametrize(("name", "damage"), table({"reference": list(REFERENCES)}))
def test_a_damaged_reference_is_computed_again(measured, tmp_path, name, damage):
    store = Store(shutil.copytree(measured, tmp_path / "store"), "quick")
    whole = stored_reference(TINY, 0, "exact", store)
    path = store.reference_path(TINY, 0, "exact")
    REFERENCES[damage](path, store)
    with bound_by_permissions():
        if damage == "a folder in its place":
            with pytest.raises(UnwritableFile) as caught:
                stored_reference(TINY, 0, "exact", store)
            assert str(path) in str(caught.value)
            return
        again = stored_reference(TINY, 0, "exact", store)
        kept = store.read_reference(TINY, 0, "exact")
    assert torch.equal(again.gradient, whole.gradient) and torch.equal(
        kept.gradient, whole.gradient
    )
    assert again.bound == kept.bound == whole.bound
