"""Results of one side: a folder, or a commit among others in a home."""

import json

from synthetic import COMMIT
from two_sides import blank, write

from pudle.files import write_record
from pudle.reports.compare import summary
from pudle.reports.compare.judge import compare
from pudle.reports.load import load


def test_results_of_two_commits_live_side_by_side(tmp_path):
    """The second commit changed one estimator: the other's record carries the first commit."""
    old, new = COMMIT, "d" * 40
    folder = write(tmp_path / "quick", blank())
    home, store = folder.parent, folder / "store"
    listed = json.loads((folder / "run.json").read_text())

    def remember(commit, records):
        write_record(
            folder / "runs" / f"{commit}.json", listed | {"commit": commit, "records": records}
        )

    remember(old, listed["records"])
    replaced = []
    for name, spec, place in listed["records"]:
        if spec == "backprop":
            record = json.loads((store / place).read_text())
            for row in record["scores"]:
                row["relative_error"] *= 100
            # Its clock is behind.
            record["provenance"] |= {"commit": new, "date": "2025-01-03"}
            place = place.replace(".json", "-new.json")
            write_record(store / place, record)
        replaced.append((name, spec, place))
    remember(new, replaced)
    sides = [load(home, "quick", commit) for commit in (old, new)]
    assert [set(side.frame["commit"]) for side in sides] == [{old}, {new}]
    assert {line["estimator"] for line in summary.lines(compare(*sides))} == {"backprop"}
