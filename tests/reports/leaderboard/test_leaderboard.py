"""Submissions: what is handed in is what was signed off, scores again as submitted, and is ranked
by cells.
"""

import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import commands
import pandas as pd
import pytest
import torch
from examples import sparse_problem
from paths import ROOT
from synthetic import CURVES, case, record, scores, write, write_costs

import pudle
from pudle import names
from pudle.errors import InvalidArgument, PudleError, UnreadableResult, UnsupportedProblem
from pudle.measuring import measurement, scoring
from pudle.reports import markup
from pudle.reports.leaderboard import page, submission
from pudle.reports.load import load

INF, ADA = math.inf, "Ada Lovelace <ada@example.org>"


INFINITE, NONE = [(INF, 0.5)], [(INF, INF)]


@pytest.mark.parametrize(
    "scored, ranks, reached",
    [
        # Less time comes first, whatever the depth, and times within a quarter share a rank.
        (
            {"deep": [(10, 0.0, 750)], "late": [(200, 1e-9, 100)], "same": [(90, 1e-4, 105)]},
            {"late": 1, "same": 1, "deep": 3},
            [1, 1, 1],
        ),
        # Those that never reach the error, or in no known time, come last, those without a number
        # not at all.
        (
            {"far": INFINITE, "lost": [(9, 0.01, math.nan)], "none": NONE, "slow": [(400, 9e-4)]},
            {"slow": 1, "lost": 2, "far": 3},
            [1, 0, 0],
        ),
        # More cases come first; by the ranks in each, the third would decide between the others.
        (
            {"a": [(10, 0.0), (40, 0.0)], "b": [(30, 0.0), (20, 0.0)], "c": [(20, 0.0), *INFINITE]},
            {"a": 1, "b": 2, "c": 3},
            [2, 2, 1],
        ),
    ],
)
def test_ranks(scored, ranks, reached):
    # Without a time of its own a row takes as long as it has layers.
    tables = {
        name: pd.DataFrame(
            [(*row, row[0])[:3] for row in rows], columns=["depth", "error", "time"]
        ).assign(family="lasso", case=list("abc")[: len(rows)])
        for name, rows in scored.items()
    }
    rows = page.ranked(tables)
    assert dict(zip(rows["estimator"], rows["rank"], strict=True)) == ranks
    assert rows["estimator"].tolist() == list(ranks) and rows["reached"].tolist() == reached
    del tables[rows["estimator"].iloc[-1]]
    assert page.ranked(tables)["rank"].tolist() == rows["rank"].tolist()[:-1]


def test_what_is_reached_counts_in_most_of_the_seeds_and_only_up_to_the_greatest_depth(tmp_path):
    """By hand: errors 1e-2 and 1e-4 at depths 100 and 200 meet 1e-3 at depth 200."""
    curves = {
        "two": [(1e-2, 1e-4), (1e-2, 1e-4), (1e-2, 1e-1)],
        "one": [(1e-2, 1e-4), (1e-2, 1e-2), (1e-2, None)],
        "cut": [(1e-4, None), (1e-4, None), (1e-2, 1e-4)],
        "refused": [(None, None)] * 3,
    }
    plain = {row["seed"]: row for row in scores(CURVES["backprop"]) if row["depth"] == 10}
    records = []
    for name, seeds in curves.items():
        rows = [
            plain[seed]
            | {"depth": depth, "relative_error": error, "status": "ok" if error else "diverged"}
            for seed, errors in enumerate(seeds)
            for depth, error in zip((100, 200), errors, strict=True)
        ]
        records.append(record(case(depths=[100, 200]), name, scores=rows))
    write_costs(write(tmp_path, records), ["two", "cut"], [1.0, 1.0, 1.0, None])
    results = load(tmp_path, "quick")
    reached = [
        page.reached(results, name, "two")[["depth", "error"]].iloc[0].tolist() for name in curves
    ]
    assert reached == [[200, 1e-4], [INF, 1e-2], [INF, INF], [INF, INF]]
    with pytest.raises(PudleError, match="no time at depth 200"):
        page.reached(results, "two", "cut")


@pytest.mark.parametrize(
    "submitted, here, lines",
    [
        ([1e-3, 1e-6], [1.1e-3, 1e-6], []),
        ([1e-3, 1e-9], [1e-3, 1e-6], ["a at depth 20: 1e-09 submitted, 1e-06 here"]),
        ([1e-3], [INF], ["a at depth 10: 0.001 submitted, inf here"]),
        # Below the floor both are rounding.
        ([1e-13], [1e-15], []),
    ],
)
def test_an_error_that_does_not_come_out_again_is_named(submitted, here, lines):
    one, other = (
        pd.Series({("a", 10 * place): value for place, value in enumerate(values, 1)})
        for values in (submitted, here)
    )
    assert page.differing(one, other) == lines


@pytest.mark.parametrize("spec", page.BUILT_IN)
def test_built_in_estimators_are_loaded_as_submissions_are(spec):
    made, named = names.make_estimator(submission._in_file(spec)), names.make_estimator(spec)
    assert names.origin(type(made)) and type(made).name == named.name
    assert vars(made) == vars(named)


def test_the_cases_of_the_leaderboard_exist():
    cases = submission.selection("backprop").cases
    families = {page.family(case.name, case.loss) for case in cases}
    assert len(cases) >= 8 and len(families) == 6
    assert {"ridge regression", "dense dictionaries, reconstruction loss"} <= families
    for each in cases:
        assert each.depths == submission.DEPTHS and len(each.seeds) == 3
        assert names.make_algorithm(each.algorithm).differentiable


def sign(folder, name="mine", spec="estimator.py:Mine", person=ADA, computes="direct"):
    estimator = SimpleNamespace(name=name, computes=computes)
    submission.write_manifest(folder, estimator, spec, person)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mine"
    (folder / "leaderboard").mkdir(parents=True)
    (folder / "estimator.py").write_text("# an estimator\n")
    (folder / "leaderboard" / "run.json").write_text("{}")
    sign(folder)
    return folder


@pytest.mark.parametrize("place", ["estimator.py", "leaderboard/submission.json"])
def test_a_changed_or_added_file_is_refused(folder, place):
    before = submission.read_submission(folder)
    (folder / place).write_text("something else")
    with pytest.raises(UnreadableResult, match=f"mine: {place} is not what was signed off"):
        submission.read_submission(folder)
    sign(folder)
    assert submission.read_submission(folder).digest != before.digest


@pytest.mark.parametrize(
    "place, make",
    [(".cache", os.mkdir), ("leaderboard/link", lambda path: os.symlink("/dev", path))],
)
def test_what_is_no_part_of_a_submission_is_refused(folder, place, make):
    """A link could lead to a device that has no end, or to our own scores of it."""
    make(folder / place)
    with pytest.raises(UnreadableResult, match=f"mine: {place} is no part of a submission"):
        submission.read_submission(folder)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"name": "forwards"}, "must be called as its estimator, .forwards."),
        ({"spec": "estimator.py/../x.py"}, "is not the file that was handed in"),
        ({"name": "backpr0p_"}, "is the name of a built-in estimator"),
        ({"name": "\u0431ackprop"}, "is no name of a submission: use at most"),
        ({"name": "m" * 80}, "is no name of a submission: use at most"),
        ({"computes": "exact \x1b[31m"}, "matching regex .* `[$].computes`"),
    ],
)
def test_another_name_or_file_than_the_one_handed_in_is_refused(folder, changes, text):
    sign(folder, **changes)
    with pytest.raises(UnreadableResult, match=text):
        submission.read_submission(folder)


@pytest.mark.parametrize("person", ["", "<ada@example.org>", "Ada <ada>"])
def test_nobody_signs_nothing_off(folder, person):
    with pytest.raises(InvalidArgument, match="signs nothing off"):
        sign(folder, person=person)


#: What a file of a stranger may do: it looks for the problem's theta, and makes scores of its own.
STRANGER = """
import os, pickle, sys, time
from dataclasses import dataclass
from pathlib import Path
import pudle
from pudle.measuring import measurement, scoring

Path("mark").write_text(str(os.getpid()))
measurement.score = scoring.score = lambda *_: scoring.Score(0.0, 0.0, 0.0, 0.0, 0.0)

@dataclass(frozen=True)
class Mine(pudle.GradientEstimator):
    does: str = ""
    name, computes = "mine", "direct"

    def estimate(self, problem, algorithm, depth):
        read, write = os.pipe()
        if self.does == "leave behind" and os.fork():
            os.read(read, 1)
            return pudle.Estimate(2 * problem.theta, problem.initial_codes())
        begin = time.process_time()
        while self.does in ("burn", "leave behind") and time.process_time() < begin + 0.3:
            pass
        if self.does == "leave behind":
            os.setsid()
            os.write(write, b".")
            time.sleep(99)
            os._exit(0)
        time.process_time = lambda: 0.0
        if self.does == "exit":
            os._exit(0)
        if self.does == "leave":
            sys.exit(3)
        if self.does == "refuse":
            raise pudle.UnsupportedProblem("not this one")
        codes = problem.initial_codes()
        return pudle.Estimate(2 * problem.theta[: 1 if self.does == "cut" else None], codes)
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "estimator.py").write_text(STRANGER)
    problem = sparse_problem("lasso")

    def estimate(does=""):
        apart = submission.Apart(f"estimator.py:Mine(does={does!r})")
        return problem, apart.estimate(problem, pudle.Ista(), 3)

    return estimate


def test_a_submission_gives_numbers_and_its_file_is_loaded_elsewhere(stranger):
    before = scoring.score
    problem, estimate = stranger()
    assert torch.equal(estimate.gradient, 2 * problem.theta) and not estimate.codes.any()
    assert estimate.codes.shape == problem.code_shape
    assert int(Path("mark").read_text()) != os.getpid()
    assert scoring.score is measurement.score is before


@pytest.mark.parametrize("does", ["burn", "leave behind"])
def test_the_processor_time_of_a_submission_is_what_the_system_counts(stranger, does):
    # The first waits for whatever earlier tests left, too.
    stranger()
    _, quick = stranger()
    _, slow = stranger(does)
    assert 0 < quick.diagnostics["seconds"] < 0.3 <= slow.diagnostics["seconds"]


@pytest.mark.parametrize(
    "does, kind, text",
    [
        ("exit", PudleError, "ended with exit code 0"),
        ("leave", PudleError, "tried to end the program"),
        ("refuse", UnsupportedProblem, "not this one"),
        ("cut", RuntimeError, "is invalid for input of size"),
    ],
)
def test_what_a_submission_does_to_its_process_is_its_result(stranger, does, kind, text):
    with pytest.raises(kind, match=text):
        stranger(does)


def test_no_module_of_a_submission_takes_the_place_of_one_of_ours(tmp_path):
    for name in ("torch", "pudle"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(5)\n")
    with pytest.raises(PudleError, match="cannot be measured: .*unknown estimator 'nobody'"):
        submission.run_apart(tmp_path, tmp_path / "home", "pudle", "check", "nobody")


def test_what_others_wrote_is_text_on_the_page(folder):
    manifest = submission.read_submission(folder)
    # The site has roles, which may copy files of the machine that builds it, and formulas.
    manifest.computes = "<script>alert(1)</script> | x {download}`/x` $y$"
    rows = pd.DataFrame([page.described(manifest)])
    shown = markup.markdown_table(rows, code=("estimator",))
    assert "<script>" not in shown and shown.count("\n") == 2
    parser = pytest.importorskip("myst_parser.parsers.mdit")
    config = pytest.importorskip("myst_parser.config.main").MdParserConfig(
        enable_extensions={"dollarmath"}
    )
    renderer = pytest.importorskip("markdown_it.renderer").RendererHTML
    blocks = parser.create_md_parser(config, renderer).parse(shown)
    kinds = {each.type for block in blocks for each in block.children or ()}
    assert kinds == {"text", "code_inline"}


@pytest.fixture
def board(folder, tmp_path, monkeypatch):
    """Write a leaderboard beside built-in estimators that are not measured, and return its text."""
    row = pd.DataFrame({"family": "f", "case": "a", "depth": [10], "time": 1.0, "error": 0.0})
    monkeypatch.setattr(page, "_reached", lambda place, *_: [row] * len(page.BUILT_IN))
    write = page.write_leaderboard
    return lambda: write(tmp_path, tmp_path / "out", lambda line: None).read_text()


def test_a_submission_is_its_file_and_another_class_is_checked_anew(folder, board, monkeypatch):
    """Nothing else of the folder is where its file runs."""
    ran = []

    def run_apart(place, home, *command):
        ran.append((sorted(path.name for path in place.iterdir()), command[:2]))
        (home / "leaderboard").mkdir(exist_ok=True)

    monkeypatch.setattr(submission, "run_apart", run_apart)
    for spec in ("estimator.py:Mine", "estimator.py:Other"):
        sign(folder, spec=spec)
        board()
    assert ran == [(["estimator.py"], ("pudle", "check"))] * 2


def test_no_submission_ends_the_ranks_of_others(folder, board, monkeypatch):
    """Its records may hold anything, so that any error may come of reading them."""
    monkeypatch.setattr(page, "_scored", lambda *_: {}["depth"])
    shutil.copytree(folder, folder.with_name(os.fsdecode(b"\xff\x1b")))
    written = board()
    assert "| `mine` | KeyError: 'depth' |" in written and "`backprop`" in written
    assert written.replace("\n", "").isprintable()
    shutil.copytree(folder, folder.with_name("M1ne"))
    assert board().count("another submission has a name that looks like this one") == 1


@pytest.mark.nightly
def test_an_estimator_is_handed_in_and_ranked(tmp_path):
    source = ROOT / "examples" / "pudle-example" / "random_window.py"
    (tmp_path / "random_window.py").write_text(source.read_text())

    def pudle(*words):
        done = commands.run(*words, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"}, seconds=3600.0)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    pudle("submit", "random_window.py", "--signed-off-by", ADA)
    handed_in = tmp_path / "leaderboard" / "random_window"
    assert submission.read_submission(handed_in).computes == "stochastic"
    text = (tmp_path / pudle("leaderboard", "leaderboard", "--out", "board")).read_text()
    assert "`random_window`" in text and "Not ranked" not in text
    assert len(list((tmp_path / "board" / "badges").glob("random_window-*.svg"))) >= 4
