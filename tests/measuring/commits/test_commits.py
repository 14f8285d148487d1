"""Two commits measured side by side: rounds, cells, one side, and two real commits."""

import contextlib
import itertools
import math

import pytest
from support.estimators.plugin import write_package
from support.oracles.comparisons import refusal
from support.records.two_sides import CASES, ESTIMATORS, TIMED, blank, scores, write

from pudle import kernel_choice
from pudle.errors import MissingResults, PudleError, SpecError
from pudle.measuring.commits import pair, script, turns
from pudle.measuring.commits.pair import CommitSide, _request_at, timed_cells
from pudle.measuring.options import Options
from pudle.measuring.store import locked
from pudle.measuring.stored_files import CommitRounds
from pudle.reports.compare.sides import load_pair
from pudle.workers import Outcome


def test_one_depth_that_diverges_does_not_hide_the_others(tmp_path):
    content = blank()
    (row,) = scores(content, depth=100, seed=1)
    failed = {"status": "diverged", "reason": "codes grow"}
    row |= failed
    content["records"][CASES[0], "backprop"] |= failed
    content["records"][CASES[1], "backprop"] |= failed | {"scores": []}
    side = CommitSide("head", tmp_path, tmp_path, write(tmp_path / "quick", content))
    left_out = {(CASES[0], "backprop", 100), *((CASES[1], "backprop", depth) for depth in TIMED)}
    assert set(timed_cells(side)) == set(itertools.product(CASES, ESTIMATORS, TIMED)) - left_out


@pytest.mark.slow
def test_a_side_is_scored_and_timed_in_turns(tmp_path, monkeypatch):
    """Both commits are the installed one, which leaves out what does not exist."""
    monkeypatch.setenv(kernel_choice.VARIABLE, "torch")
    monkeypatch.setattr(turns, "ROUNDS", 2)
    side = CommitSide("head", tmp_path, tmp_path, tmp_path / "head" / "quick")
    request = {
        "profile": "quick",
        "estimators": ("one_step", "no_such_estimator"),
        "only": True,
        "depths": (2, 10),
        "seeds": 1,
        "losses": ("lasso",),
        "datasets": ("sparse_gaussian(n_samples=20)", "no_such_dataset"),
        "algorithms": ("fista",),
    }
    case = "sparse_gaussian_n_samples_20-fista-lasso-1_seeds"
    with side.pool() as one, side.pool() as other:
        side.call(one, math.inf, script.measure, request, tmp_path / "head")
        with pytest.raises(PudleError, match="head cannot be measured: .*no_such_profile"):
            side.call(one, math.inf, script.lacking, {"profile": "no_such_profile"})
        cells = timed_cells(side)
        # The given depths take the place of the profile's, for scores and costs alike.
        assert cells == [(case, "one_step", 2), (case, "one_step", 10)]
        cells = [cells[0], (case, "no_such_estimator", 10)]
        timers = {"base": side.timer(one), "head": side.timer(other)}
        rounds = turns.time_in_turns(timers, cells)
    # Memory is measured, and times are not: those are taken in turns.
    costs = (side.folder / "store" / case / "costs").iterdir()
    assert {path.name.partition("-")[0] for path in costs} == {"memory_bytes"}
    timed = [row for row in rounds if row.estimator == "one_step"]
    assert len(timed) == 2 and all(row.base > 0 and row.head > 0 for row in timed)
    (reason,) = (row.reason for row in rounds if row.estimator == "no_such_estimator")
    assert reason.startswith("unknown estimator 'no_such_estimator'")


CASE = "sparse_gaussian-ista-lasso"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Run the script that measures a commit's scores, and return the selection that it measures;
    None if there is none.
    """

    def asked(**request):
        selections = []
        monkeypatch.setattr(
            script, "execute", lambda selection, **options: selections.append(selection)
        )
        script.measure({"profile": "quick", **request}, tmp_path)
        return selections[0] if selections else None

    return asked


@pytest.mark.parametrize("group", ["estimators", "cases", "datasets", "algorithms"])
def test_a_commit_that_has_none_of_what_is_asked_for_measures_nothing(group, asked):
    assert asked(**{group: ["no_such"]}, only=group == "estimators") is None


def test_both_commits_call_a_file_alike(asked, tmp_path, monkeypatch):
    names = set()
    for side in ("base", "head"):
        own = tmp_path / side / "own.py"
        own.parent.mkdir()
        own.write_text(
            "import pudle\ndef problem():\n return pudle.make_dataset('ridge').problem()"
        )
        monkeypatch.chdir(own.parent)
        names |= {case.name for case in asked(datasets=["own.py"]).cases}
    assert len(names) == 1


def test_a_commit_measures_what_it_has_of_what_is_asked_for(asked):
    some = asked(estimators=["one_step", "no_such"], only=True, cases=[CASE, "no_such*"])
    assert [case.name for case in some.cases] == [CASE] and some.estimators == ("one_step",)
    # No verdict depends on experiments and on times of one commit alone.
    assert (some.experiments, some.costs) == ((), ("memory_bytes",))
    crossed = asked(
        datasets=["digits", "no_such"], algorithms=["fista"], losses=["lasso"], seeds=2, depths=[3]
    )
    (case,) = crossed.cases
    assert (case.dataset, case.algorithm, case.loss) == ("digits", "fista", "lasso")
    assert case.depths == crossed.timed_depths == (3,) and len(case.seeds) == 2


def test_what_cannot_be_loaded_is_named_with_the_place_and_the_error(
    tmp_path, monkeypatch, installed
):
    """Entry points are looked at, requested or not, as well as files that are named."""
    (tmp_path / "mine.py").write_text("x = 1\ndef mine(:\n")
    point = "[pudle.estimators]\nabsent = absent_plugin:X"
    installed(write_package(tmp_path / "site", "absent_plugin", "import nothing_here", point))
    monkeypatch.chdir(tmp_path)
    request = {"estimators": ["backprop", "mine.py"], "datasets": ["digts(seed=1)"]}
    # No names of cases are known on other datasets.
    reasons = script.lacking({"profile": "quick", "cases": ["digts*"], **request})
    assert reasons.pop("digts(seed=1)") == "unknown dataset 'digts' (did you mean 'digits'?)"
    assert "ModuleNotFoundError: No module named 'nothing_here'" in reasons.pop("absent")
    assert "SyntaxError: invalid syntax (mine.py, line 2)" in reasons.pop("mine.py")
    assert reasons == {}


@pytest.fixture
def requested(tmp_path, monkeypatch):
    """Ask for a comparison of two commits that have what this one has, but for the base's own
    `only_there`; what is measured is listed.
    """
    measured = []
    ends = {}

    def call(side, pool, timeout, function, request, *home):
        if function is script.measure:
            measured.append(side.label)
            status, scored = ends.get(side.label[:4], ("ok", None))
            if scored is not None:
                write(side.folder, scored)
            return Outcome(None, status)
        reasons = script.lacking(request)
        if side.label.startswith("base"):
            reasons.pop("only_there", None)
        return Outcome(reasons)

    build = contextlib.nullcontext((tmp_path, tmp_path))
    monkeypatch.setattr(pair, "build_commit", lambda *_: build)
    monkeypatch.setattr(CommitSide, "call", call)
    both = pair.CommitPair(tmp_path, "b" * 40, "c" * 40, "quick")

    def requested(sides=(), minutes=None, **options):
        ends.update(sides)
        both.measure(tmp_path, lambda line: None, Options(**options), minutes=minutes)
        return measured

    return requested


@pytest.mark.parametrize(
    "options, reason",
    [
        (
            {"estimators": ["one_step", "bakprop"]},
            "unknown estimator 'bakprop' (did you mean 'backprop'?)",
        ),
        ({"cases": [CASE, "zzz*"]}, "--case 'zzz*' matches no case"),
    ],
)
def test_what_neither_commit_has_is_refused_before_either_is_measured(options, reason, requested):
    text = refusal(lambda: requested(**options), SpecError)
    assert text.startswith("on both commits: ") and "one_step" not in text and len(text) < 300
    assert reason in text


def test_what_one_commit_has_is_measured(requested):
    measured = requested(estimators=["only_there"], cases=[CASE])
    assert measured == ["base bbbbbbbb", "head cccccccc"]


def test_a_time_that_ends_before_a_side_has_a_score_leaves_nothing_to_judge(requested, tmp_path):
    begun = blank()
    begun["records"] = {}
    whole = ("ok", blank())
    for sides in (
        {"base": ("timeout", None)},
        {"base": whole, "head": ("timeout", None)},
        {"base": whole, "head": ("timeout", begun)},
    ):
        with pytest.raises(MissingResults, match="(base|head) .* e.g. --minutes 10, or"):
            requested(sides, minutes=1)
    with pytest.raises(MissingResults, match="e.g. --minutes 45, or"):
        requested({"base": ("timeout", None)}, minutes=15)
    # A single score is enough.
    some = blank()
    some["records"] = dict([*some["records"].items()][:1])
    requested({"base": whole, "head": ("timeout", some)}, minutes=-1)
    assert pair.CommitPair(tmp_path, "b" * 40, "c" * 40, "quick").read().partial


def test_what_a_side_without_a_score_was_at_is_said(requested, tmp_path):
    log = tmp_path / "compare" / f"{'b' * 12}-{'c' * 12}" / "base.log"
    log.parent.mkdir(parents=True)
    log.write_text("begun\npudle: compiling kernels\x1b\n")
    with pytest.raises(MissingResults, match=r"\(it printed last: pudle: compiling kernels\\x1b\)"):
        requested({"base": ("timeout", None)}, minutes=1)
    log.write_text("")
    with pytest.raises(MissingResults, match="1 --minutes, so that"):
        requested({"base": ("timeout", None)}, minutes=1)


@pytest.mark.parametrize("is_suite", [False, True])
def test_commits_of_a_plugin_share_the_compiled_kernels_of_the_installed_suite(
    is_suite, tmp_path, monkeypatch
):
    """Each side compiled them anew, which took two thirds of the time of a small comparison."""
    environments = []
    monkeypatch.setattr(
        pair, "Process", lambda *arguments, env, **options: environments.append(env)
    )
    monkeypatch.setenv("NUMBA_CACHE_DIR", "the user's")
    site = tmp_path / "site"
    (site / ("pudle" if is_suite else "plugin")).mkdir(parents=True)
    (tmp_path / "head").mkdir()
    CommitSide("head", tmp_path, site, tmp_path / "head" / "quick")._start()
    (environment,) = environments
    assert environment["NUMBA_CACHE_DIR"] == (str(site) if is_suite else "the user's")


def test_an_estimator_in_a_file_is_that_of_each_commit_where_it_has_one(tmp_path, monkeypatch):
    tree, root = tmp_path / "tree", tmp_path / "root"
    for folder in (tree, root):
        (folder / "lib").mkdir(parents=True)
        (folder / "lib" / "kept.py").write_text("")
    (root / "new.py").write_text("")
    monkeypatch.chdir(root / "lib")
    specs = ["kept.py", "../new.py", f"{tmp_path}/other.py"]
    request = _request_at(tree, root, "quick", Options(specs))
    assert request["estimators"] == ("lib/kept.py", f"{root}/new.py", f"{tmp_path}/other.py")


def test_results_of_another_profile_stay_beside_their_times(requested, tmp_path):
    """Without them the times made `pudle compare` of that profile say that neither commit had a
    case.
    """
    other = pair.CommitPair(tmp_path, "b" * 40, "c" * 40, "paper")
    for side in ("base", "head"):
        folder = other.side(side)
        write(folder.with_name("quick"), blank()).rename(folder)
    CommitRounds(rounds=[]).write(other.rounds_path)
    requested({"base": ("ok", blank()), "head": ("ok", blank())}, minutes=-1)
    assert other.read().rounds == [] and all(side.rows for side in load_pair(other))


def test_what_comparisons_have_left_that_were_killed_is_swept(requested, tmp_path):
    folders = {
        name: tmp_path / "compare" / f"{number * 12}-{'e' * 12}"
        for number, name in enumerate(("killed", "ended", "at work"), 1)
        for number in [f"{number}"]
    }
    for folder in [*folders.values(), tmp_path / "compare" / "notes"]:
        (folder / "base-build" / "tree").mkdir(parents=True)
    (folders["ended"] / "rounds-quick.json").touch()
    with locked(folders["at work"], "comparison"):
        requested()
    assert [folder.exists() for folder in folders.values()] == [False, True, True]
    assert (tmp_path / "compare" / "notes").exists()
