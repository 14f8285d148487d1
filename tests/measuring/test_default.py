"""Every score of the profile `default`, which takes hours, at few depths."""

import json
from collections import Counter

import pytest
from support.processes.commands import run


@pytest.mark.nightly
def test_no_estimator_breaks_on_any_case_of_default(tmp_path):
    # A sweep over many layers and one over few may take different ways.
    depths = [word for depth in (1, 5, 100) for word in ("--depth", depth)]
    options = ["--scores-only", "--seeds", 1, *depths, "--timeout", 600, "--home", tmp_path]
    done = run(
        *map(str, ["run", "--profile", "default", "--case", "*", *options]),
        cwd=tmp_path,
        seconds=3600,
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("default/store/*/*.json")]
    statuses = Counter(row["status"] for record in records for row in record.get("scores", ()))
    assert statuses["ok"] > 1000 and not {*statuses} - {"ok", "skipped", "unsupported"}, statuses
