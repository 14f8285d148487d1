"""Submissions: what is handed in is what was signed off, scores again as submitted, and is ranked
by cells.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jinja2 import Environment, PackageLoader
from paths import ROOT
from synthetic import CURVES, case, record, scores, write

from pudle.errors import InvalidArgument, UnreadableResult
from pudle.reports import markup
from pudle.reports.leaderboard import page, ranking, submission
from pudle.reports.load import load


class Mine:
    """What a manifest needs of an estimator."""

    name = "mine"
    computes = "direct"


def cells(*values: float) -> pd.Series:
    """Return errors of one estimator at depths 10, 20 and so on of case a."""
    places = [("a", 10 * (number + 1)) for number in range(len(values))]
    index = pd.MultiIndex.from_tuples(places, names=["case", "depth"])
    return pd.Series(values, index=index, dtype=float)


def needs(*pairs: tuple[float, float]) -> pd.DataFrame:
    """Return depth to the goal and last error of one estimator in cases a, b, ... of a family."""
    depths, errors = zip(*pairs, strict=True)
    return pd.DataFrame(
        {"family": "lasso", "case": list("abcd")[: len(pairs)], "depth": depths, "error": errors}
    )


INF = math.inf


class TestRanks:
    def test_fewer_layers_come_first_whatever_the_last_error_and_equal_ones_share_a_rank(self):
        found = {"late": needs((200, 1e-9)), "early": needs((90, 1e-4)), "same": needs((90, 1e-5))}
        ranks = ranking.ranked(found)
        assert dict(zip(ranks["estimator"], ranks["rank"], strict=True)) == {
            "early": 1,
            "same": 1,
            "late": 3,
        }

    def test_those_that_never_reach_the_error_come_last_those_without_a_number_not_at_all(
        self,
    ):
        found = {
            "far": needs((INF, 0.48)),
            "near": needs((INF, 0.01)),
            "none": needs((INF, INF)),
            "slow": needs((400, 9e-4)),
        }
        ranks = ranking.ranked(found)
        assert ranks["estimator"].tolist() == ["slow", "near", "far"] and ranks[
            "rank"
        ].tolist() == [1, 2, 3]
        assert ranks["reached"].tolist() == [1, 0, 0] and ranks["error"].tolist() == [
            9e-4,
            0.01,
            0.48,
        ]

    def test_one_easy_case_does_not_outweigh_the_others(self):
        found = {
            "steady": needs((50, 0.0), (50, 0.0), (50, 0.0)),
            "once": needs((1, 0.0), (60, 0.0), (INF, 0.5)),
        }
        ranks = ranking.ranked(found)
        assert ranks["estimator"].tolist() == ["steady", "once"] and ranks["reached"].tolist() == [
            3,
            2,
        ]

    def test_what_is_reached_counts_in_most_of_the_seeds_and_only_up_to_the_greatest_depth(
        self, tmp_path
    ):
        """By hand: errors 1e-2 and 1e-4 at depths 10 and 30 meet 1e-3 at depth 20, their logarithm
        being linear.
        """
        curves = {
            "two": [(1e-2, 1e-4), (1e-2, 1e-4), (1e-2, 1e-1)],
            "one": [(1e-2, 1e-4), (1e-2, 1e-2), (1e-2, None)],
            "cut": [(1e-4, None), (1e-4, None), (1e-2, 1e-4)],
        }
        rows = {row["seed"]: row for row in scores(CURVES["backprop"]) if row["depth"] == 10}
        made = {
            name: [
                rows[seed]
                | {
                    "depth": depth,
                    "relative_error": error,
                    "status": "ok" if error else "diverged",
                }
                for seed, errors in enumerate(seeds)
                for depth, error in zip((10, 30), errors, strict=True)
            ]
            for name, seeds in curves.items()
        }
        records = [
            record(case(depths=[10, 30]), name, scores=found) for name, found in made.items()
        ]
        results = load(write(tmp_path, records), "quick")
        found = {
            name: ranking.reached(results, name)[["depth", "error"]].iloc[0].tolist()
            for name in curves
        }
        assert found == {"two": [20, 1e-4], "one": [INF, 1e-2], "cut": [INF, INF]}

    def test_an_error_that_does_not_come_out_again_is_named(self):
        assert ranking.differing(cells(1e-3, 1e-6), cells(1.1e-3, 1e-6)) == []
        (line,) = ranking.differing(cells(1e-3, 1e-9), cells(1e-3, 1e-6))
        assert line == "a at depth 20: 1e-09 submitted, 1e-06 here"
        assert len(ranking.differing(cells(1e-3), cells(np.nan))) == 1
        # Below the floor both are rounding.
        assert ranking.differing(cells(1e-13), cells(1e-15)) == []

    def test_families_are_kinds_of_problems_with_their_loss(self):
        names = {
            "image_patches-ista-lasso": "photographs, lasso loss",
            "ridge-ista-linear": "ridge regression",
            "sparse_gaussian-ista-reconstruction": "dense dictionaries, reconstruction loss",
        }
        for name, family in names.items():
            assert ranking.family(name, name.rpartition("-")[2]) == family


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "mine"
    (folder / "leaderboard").mkdir(parents=True)
    (folder / "estimator.py").write_text("# an estimator\n")
    (folder / "leaderboard" / "run.json").write_text("{}")
    submission.write_manifest(folder, Mine(), "estimator.py:Mine", "Ada Lovelace <ada@example.org>")
    return folder


class TestSubmission:
    def test_what_was_signed_off_is_read_again(self, folder):
        read = submission.read_submission(folder)
        assert read.manifest["name"] == "mine" and set(read.manifest["files"]) == {
            "estimator.py",
            "leaderboard/run.json",
        }
        assert read.manifest["signed_off_by"] == "Ada Lovelace <ada@example.org>"

    @pytest.mark.parametrize(
        "place", ["estimator.py", "leaderboard/run.json", "leaderboard/more.json"]
    )
    def test_a_changed_or_added_file_is_refused(self, folder, place):
        before = submission.read_submission(folder).digest
        (folder / place).write_text("something else")
        with pytest.raises(UnreadableResult, match=f"mine: {place} is not what was signed off"):
            submission.read_submission(folder)
        read = submission.write_manifest(folder, Mine(), "estimator.py", "Ada <ada@example.org>")
        assert read.digest != before

    def test_another_folder_name_and_a_damaged_manifest_are_refused(self, folder):
        moved = folder.rename(folder.with_name("forward"))
        with pytest.raises(UnreadableResult, match="must be called as its estimator, .mine."):
            submission.read_submission(moved)
        (moved / "submission.json").write_text(json.dumps({"name": "forward"}))
        with pytest.raises(UnreadableResult):
            submission.read_submission(moved)

    @pytest.mark.parametrize(
        "spec", ["analytic", "../other.py:Mine", "/tmp/estimator.py", "estimator.py/../x.py"]
    )
    def test_another_file_than_the_one_handed_in_is_refused(self, folder, spec):
        submission.write_manifest(folder, Mine(), spec, "Ada <ada@example.org>")
        with pytest.raises(UnreadableResult, match="is not the file that was handed in"):
            submission.read_submission(folder)

    def test_the_name_of_a_built_in_estimator_is_refused(self, folder):
        taken = folder.rename(folder.with_name("backprop"))
        submission.write_manifest(
            taken,
            type("Taken", (), {"name": "backprop", "computes": "unrolled"}),
            "estimator.py",
            "A B <a@b>",
        )
        with pytest.raises(UnreadableResult, match="is the name of a built-in estimator"):
            submission.read_submission(taken)

    @pytest.mark.parametrize("person", ["", "Ada", "<ada@example.org>", "Ada <ada>"])
    def test_nobody_signs_nothing_off(self, folder, person):
        with pytest.raises(InvalidArgument, match="signs nothing off"):
            submission.write_manifest(folder, Mine(), "estimator.py", person)

    def test_the_cases_of_the_leaderboard_exist(self):
        chosen = submission.selection("backprop")
        families = {ranking.family(case.name, case.loss) for case in chosen.cases}
        assert len(chosen.cases) >= 8 and len(families) == 6
        assert all(
            case.depths == submission.DEPTHS and len(case.seeds) == 3 for case in chosen.cases
        )


def test_what_others_wrote_is_text_on_the_page(folder):
    one = submission.read_submission(folder)
    one.manifest["computes"] = "<script>alert(1)</script> | x"
    shown = markup.markdown_table(pd.DataFrame([page._described(one)]), code=("estimator",))
    assert "<script>" not in shown and shown.count("\n") == 2


def test_badges_are_pictures_with_a_text_for_those_who_do_not_see_them():
    template = Environment(
        loader=PackageLoader("pudle.reports.leaderboard"), autoescape=True
    ).get_template("badge.svg.j2")
    text = template.render(label="dense dictionaries, lasso loss", value="2 of 9")
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == "dense dictionaries, lasso loss: 2 of 9"
    assert (
        page.badge_name("mine", "dense dictionaries, lasso loss")
        == "mine-dense-dictionaries-lasso-loss.svg"
    )


@pytest.mark.nightly
def test_an_estimator_is_handed_in_ranked_and_refused_once_it_is_changed(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    (tmp_path / "random_window.py").write_text(
        (ROOT / "examples" / "pudle-example" / "random_window.py").read_text()
    )

    def pudle(*words):
        done = subprocess.run(
            [sys.executable, "-m", "pudle", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    pudle("submit", "random_window.py", "--signed-off-by", "Ada Lovelace <ada@example.org>")
    assert (
        submission.read_submission(tmp_path / "leaderboard" / "random_window").manifest["computes"]
        == "stochastic"
    )
    written = Path(
        tmp_path, pudle("leaderboard", "leaderboard", "--out", "board").strip().splitlines()[-1]
    )
    text = written.read_text()
    assert "`random_window`" in text and "## Times" in text and "Not ranked" not in text
    assert len(list((tmp_path / "board" / "badges").glob("random_window-*.svg"))) >= 4
    file = tmp_path / "leaderboard" / "random_window" / "estimator.py"
    file.write_text(file.read_text() + "\n")
    pudle("leaderboard", "leaderboard", "--out", "board")
    assert "is not what was signed off" in written.read_text()
