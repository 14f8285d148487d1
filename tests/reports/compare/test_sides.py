"""Results of one side: a folder, or a commit among others in a home."""

from __future__ import annotations

import json

import pytest
from two_sides import CASES, ESTIMATORS, blank, write

from pudle.errors import MissingResults
from pudle.reports.compare import summary
from pudle.reports.compare.judge import compare
from pudle.reports.compare.sides import load_commit


def test_surfaces_in_a_store_are_no_records(tmp_path):
    folder = write(tmp_path / "quick", blank())
    path = folder / "store" / "artifacts" / "surface.json"
    path.parent.mkdir()
    path.write_text('{"kind": "window_surface", "key": "0", "rows": []}')
    assert len(load_commit("b" * 40, "old", tmp_path, "quick").records) == len(CASES) * len(ESTIMATORS)


def test_results_of_two_commits_live_side_by_side(tmp_path):
    """The second commit changed one estimator: the other's record still carries the first commit."""
    old, new = "b" * 40, "c" * 40
    content = blank()
    home = write(tmp_path / "quick", content).parent
    folder = home / "quick"
    selection = json.loads((folder / "selection.json").read_text())
    paths = sorted((folder / "store").glob("*/*.json"))
    kept = [str(path.relative_to(folder / "store")) for path in paths]

    def remember(commit, records):
        path = folder / "runs" / f"{commit}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"commit": commit, "dirty": False, "selection": selection, "records": records}))

    remember(old, kept)
    changed = [path for path in paths if json.loads(path.read_text())["estimator"] == "backprop"]
    for path in changed:
        record = json.loads(path.read_text())
        for row in record["scores"]:
            row["relative_error"] *= 100
        record["provenance"] |= {"commit": new, "date": "2026-01-03"}
        (path.parent / f"new-{path.name}").write_text(json.dumps(record))
    remember(new, [name for name in kept if folder / "store" / name not in changed]
             + [str((path.parent / f"new-{path.name}").relative_to(folder / "store")) for path in changed])  # fmt: skip
    results = folder / "results" / "here"
    asv = json.loads((results / "bbbbbbbb-existing.json").read_text())
    (results / "cccccccc-existing.json").write_text(json.dumps(asv | {"commit_hash": new}))
    sides = [load_commit(commit, commit, home, "quick") for commit in (old, new)]
    assert [set(side.frame["commit"]) for side in sides] == [{old}, {new}]
    assert [side.notes for side in sides] == [(), ()]
    assert {line["estimator"] for line in summary.lines(compare(*sides))} == {"backprop"}
    changed[0].unlink()
    (line,) = load_commit(old, "old", home, "quick").damaged
    assert str(changed[0]) in line and "delete it and run `pudle run` again" in line
    with pytest.raises(MissingResults, match="no results of commit nobody"):
        load_commit("d" * 40, "nobody", home, "quick")


def test_results_of_an_interrupted_run_are_found_by_their_records(tmp_path):
    home = write(tmp_path / "quick", blank()).parent
    assert len(load_commit("b" * 40, "old", home, "quick").frame) == 2 * 3 * (3 * 3 * 5 + 2 * 2)
