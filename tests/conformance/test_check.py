"""The conformance kit finds every planted defect and clears what is sound; `pudle check` says so in the right place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import planted
import pytest
import torch

import pudle
from pudle import conformance
from pudle.conformance import oracles
from pudle.conformance.specimens import ALGORITHMS, KINDS, settings

#: Two programs for one expression in float64.
ROUNDING = 1e-12
#: Central differences at a step of 1e-5, over the scale of the loss.
DIFFERENCES = 1e-7

SOUND = {
    "unrolled": planted.Sound(),
    "truncated": planted.Window(),
    "stochastic": planted.Smoothing(),
    "implicit": planted.Implicit(),
}
EVERYWHERE = settings(*KINDS, algorithms=tuple(ALGORITHMS))


@pytest.fixture(autouse=True)
def grad_mode():
    """One of the defects leaves the grad mode switched."""
    with torch.enable_grad():
        yield


def failures(estimator, *names: str) -> list[conformance.Record]:
    return [record for record in conformance.check(estimator, names=names) if record.status == "failed"]


# --- the kit


@pytest.mark.parametrize("claim", SOUND)
def test_what_is_sound_passes(claim):
    estimator = SOUND[claim]
    assert estimator.computes == claim
    records = conformance.check(estimator)
    assert not [record for record in records if record.status != "passed"]
    checked = {record.check for record in records}
    assert {"claim", "codes", "sweep", "form"} <= checked
    assert ("window" in checked) == (claim == "truncated")


@pytest.mark.parametrize("defect", planted.DEFECTS)
def test_every_planted_defect_is_caught(defect):
    estimator, check, words = planted.DEFECTS[defect]
    found = failures(estimator, check)
    assert found, f"{check} passed"
    for record in found:
        assert record.check == check
        assert record.reason and len(record.reason.splitlines()) == 1
        if record.number is not None and record.limit is not None and record.check != "window":
            assert not record.number < record.limit
    assert any(words in record.reason for record in found), found[0].reason


def test_a_failure_tells_where_and_the_number():
    estimator, _, _ = planted.DEFECTS["scaled by n"]
    record = failures(estimator, "claim")[0]
    assert (record.problem, record.loss, record.algorithm) == ("sparse coding", "lasso", "ista")
    assert record.number == pytest.approx(16, rel=1e-9) and record.limit == conformance.checks.EXACT


def test_refusals_are_records_with_the_reason():
    records = conformance.check(planted.MovingStep(), names=("codes",))
    refused = [record for record in records if record.status == "refused"]
    assert {record.problem for record in refused} >= {"ridge", "penalty"}
    assert {record.reason for record in refused} == {"planted treats dense dictionaries under ista: use backprop instead"}


def test_a_missing_library_is_no_finding(tmp_path):
    """Neither passed nor failed: the estimator cannot run here."""
    text = "install pudle[peers]: nothing_of_this_name is not installed"

    class Needs(planted.Sound):
        def estimate(self, problem, algorithm, depth):
            raise pudle.MissingDependency(text)

    with pytest.raises(pudle.MissingDependency, match="install"):
        conformance.check(Needs(), names=("claim",))
    needs = "raise MissingDependency('install this first, please')"
    source = ESTIMATOR.replace("(depth,) = check_depths([depth])", needs)
    (tmp_path / "mine.py").write_text(source.replace("import Estimate", "import MissingDependency, Estimate"))
    done = check("mine.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("pudle: error: install this first, please\n")


def test_progress_is_shown():
    seen = []
    conformance.check(planted.Sound(), lambda *step: seen.append(step), names=("description", "sweep"))
    assert seen[0] == ("description", 0, 4) and seen[-1] == ("done", 4, 4)


def test_global_random_state_is_put_back():
    before = torch.get_rng_state()
    conformance.check(planted.GlobalDraws(), names=("random_state",))
    assert torch.equal(torch.get_rng_state(), before)


# --- the truth behind it


@pytest.mark.parametrize("setting", EVERYWHERE, ids=str)
def test_models_are_the_problems(setting):
    """Loss, prox and layers of package and numpy agree, over all kinds of problems and algorithms."""
    problem, algorithm, model = setting.make(), setting.make_algorithm(), setting.model
    trajectory = algorithm.run(problem, 7)
    codes = trajectory.codes.flatten(1).numpy()
    assert np.abs(codes - model.codes(setting.layers, 7)).max() < ROUNDING
    loss = float(model.loss(codes, model.theta))
    assert float(problem.outer_loss(trajectory.codes)) == pytest.approx(loss, rel=ROUNDING)
    assert problem.lipschitz_constant == pytest.approx(model.lipschitz_constant, rel=1e-6)


@pytest.mark.parametrize("setting", settings(*KINDS, algorithms=("ista", "fista(restart)")), ids=str)
@pytest.mark.parametrize("window", [None, 3])
def test_derivatives_of_the_models_are_central_differences(setting, window):
    model, layers = setting.model, setting.layers
    gradient = model.unrolled(layers, 8, window)
    direction = np.random.default_rng(5).standard_normal(model.theta.shape)
    difference = oracles.central_difference(
        lambda at: model.loss(model.codes(layers, 8, at, window), at), model.theta, direction
    )
    size = np.linalg.norm(gradient) * np.linalg.norm(direction) + abs(model.loss(model.codes(layers, 8), model.theta))
    assert abs(float((gradient * direction).sum()) - float(difference)) < DIFFERENCES * size


@pytest.mark.parametrize("setting", settings("square", "convolutional", "penalty", "ridge"), ids=str)
def test_implicit_gradient_of_the_models_is_the_certified_one(setting):
    reference = pudle.reference(setting.make())
    assert reference.status == "certified"
    exact = setting.model.implicit(reference.codes.flatten(1).numpy())
    assert np.linalg.norm(exact - reference.gradient.numpy()) < 1e-10 * float(reference.gradient.norm())


# --- the command


ESTIMATOR = """
from dataclasses import dataclass

import torch

from pudle import Estimate, GradientEstimator
from pudle.unrolling import check_depths, unrolled_gradient


@dataclass(frozen=True)
class Mine(GradientEstimator):
    window: int = 4

    name = "mine"
    computes = "truncated"
    consistent_for = ("lasso",)

    def estimate(self, problem, algorithm, depth):
        (depth,) = check_depths([depth])
        used = min(self.window, depth)
        with torch.no_grad():
            state = algorithm.run(problem, depth - used).states[depth - used]
        gradient, codes = unrolled_gradient(problem, algorithm, state, used)
        return Estimate(gradient, codes, {"layers_differentiated": used})
"""


def check(*arguments, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pudle", "check", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_sound_file_passes(tmp_path):
    (tmp_path / "mine.py").write_text(ESTIMATOR)
    done = check("mine.py", "--arguments", "window=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine(window=3): 150 passed" in done.stdout
    assert done.stderr == "checking mine(window=3)\n"
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine.py"}


def test_a_defect_is_printed_with_number_and_reason_on_one_line(tmp_path):
    (tmp_path / "mine.py").write_text(ESTIMATOR.replace("Estimate(gradient,", "Estimate(-gradient,"))
    done = check("mine.py", cwd=tmp_path)
    assert done.returncode == 1
    (line, *_) = [line for line in done.stdout.splitlines() if "negated" in line]
    for words in ("claim", "sparse coding", "lasso", "ista", "2", "1e-09", "-1 times the derivative through 2 of 2 layers"):
        assert words in line
    assert "more of the same: see --all" in done.stdout
    assert "Traceback" not in done.stderr


def test_several_targets_end_in_a_table_by_problem(tmp_path):
    (tmp_path / "mine.py").write_text(ESTIMATOR.replace("window: int = 4", "window: int = 1"))
    done = check("mine.py", "analytic", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    table = done.stdout[done.stdout.index("All checks by problem") :]
    for setting in conformance.GRID:
        (row,) = (
            line
            for line in table.splitlines()
            if [cell.strip() for cell in line.split("│")[1:4]] == [setting.problem, setting.loss, setting.algorithm]
        )
        assert [cell.strip() for cell in row.split("│")[4:6]] == ["passed", "passed"]


TWO = ESTIMATOR + "\n\n@dataclass(frozen=True)\nclass Second(Mine):\n    name = 'second'\n"
WRONG = {
    "no file": (None, ["mine.py"], "mine.py: there is no such file"),
    "empty": ("", ["mine.py"], "mine.py holds 0 GradientEstimator subclasses (none): leave exactly one"),
    "two": (TWO, ["mine.py"], "mine.py holds 2 GradientEstimator subclasses (Mine, Second): leave exactly one"),
    "import error": ("\n\nimport nothing_of_this_name", ["mine.py"], "mine.py cannot be imported (line 3): ModuleNotFound"),
    "syntax error": ("def f(:\n", ["mine.py"], "mine.py cannot be imported (line 1): SyntaxError"),
    "exits": ("import sys\nsys.exit(0)\n", ["mine.py"], "mine.py cannot be imported (line 2): SystemExit: 0"),
    "unknown argument": (ESTIMATOR, ["mine.py", "--arguments", "windw=3"], "Mine has no argument 'windw'"),
    "argument that calls": (ESTIMATOR, ["mine.py", "--arguments", "window=exit()"], "a spec never calls or computes"),
    "malformed arguments": (ESTIMATOR, ["mine.py", "--arguments", "window"], "arguments need their names"),
    "arguments for a spec": (None, ["backprop", "--arguments", "window=3"], "--arguments is for a FILE.py"),
    "unknown estimator": (None, ["backprp"], "unknown estimator 'backprp' (did you mean 'backprop'?)"),
    "nothing": (None, [], "Missing argument 'SPEC|FILE.py...'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_is_one_line(name, tmp_path):
    content, arguments, text = WRONG[name]
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    done = check(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert text in done.stderr
    assert done.stderr.startswith("pudle: error: ") and done.stderr.count("\n") == 1, done.stderr
