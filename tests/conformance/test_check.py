"""The checks find every planted defect and pass sound estimators; `pudle check` prints that."""

from __future__ import annotations

import dataclasses
import inspect
import sys

import numpy as np
import oracles
import planted
import pytest
import torch
from click.testing import CliRunner

import pudle
from pudle import cli, conformance
from pudle.algorithms import thresholding
from pudle.conformance import command, tolerances
from pudle.conformance.specimens import DRAWN, FEW, VARIED, named, specimens
from pudle.terminal import output

#: Two programs for one expression in float64.
ROUNDING = 1e-12
#: Central differences at a step of 1e-5, over the scale of the loss.
DIFFERENCES = 1e-7


@pytest.fixture(autouse=True)
def grad_mode():
    """One of the defects leaves the grad mode switched."""
    with torch.enable_grad():
        yield


# --- the checks


@pytest.mark.nightly
@pytest.mark.parametrize("claim", planted.SOUND)
def test_sound_estimators_pass(claim):
    estimator = planted.SOUND[claim]
    assert estimator.computes == claim
    records = conformance.check(estimator)
    assert not [record for record in records if record.status != "passed"]


def first_of_each_check() -> list:
    """Mark all defects as nightly but the first of each check."""
    seen, cases = set(), []
    for name, (_, check, _) in planted.DEFECTS.items():
        cases.append(pytest.param(name, marks=[pytest.mark.nightly] if check in seen else []))
        seen.add(check)
    return cases


@pytest.mark.parametrize("defect", first_of_each_check())
def test_every_planted_defect_is_caught(defect):
    estimator, name, words = planted.DEFECTS[defect]
    check = conformance.CHECKS[name]
    for specimen in check.specimens(estimator):
        record = check(estimator, specimen)
        # One specimen that shows the defect is enough: the others take long.
        if record.status == "failed" and words in record.reason:
            assert record.check == name and len(record.reason.splitlines()) == 1
            assert record.number is None or not record.number < (record.limit or 0)
            return
    # A failure of the estimator as a whole, such as refusing every problem.
    records = conformance.check(estimator, names=(name,))
    assert words in [record.reason for record in records if record.status == "failed"][-1]


def test_every_check_has_a_planted_defect():
    assert {check for _, check, _ in planted.DEFECTS.values()} == set(conformance.CHECKS)


def test_a_failure_has_the_specimen_and_the_number():
    estimator, _, _ = planted.DEFECTS["scaled by n"]
    record = conformance.CHECKS["claim"](estimator, named("sparse coding", "lasso"))
    assert (record.problem, record.loss, record.algorithm) == ("sparse coding", "lasso", "ista")
    assert record.number == pytest.approx(16, rel=1e-9) and record.limit == tolerances.EXACT


class Raises(planted.Sound):
    error = ValueError()

    def estimate(self, problem, algorithm, depth):
        raise self.error


def test_exceptions_are_failures_refusals_or_passed_on():
    estimator, check = Raises(), conformance.CHECKS["claim"]
    record = check(estimator, named("sparse coding", "lasso"))
    assert record.status == "failed" and "ValueError: an empty message" in record.reason
    Raises.error = pudle.UnsupportedProblem("mine treats no problem at all: use backprop instead")
    record = check(estimator, named("sparse coding", "lasso"))
    assert (record.status, record.reason) == ("refused", str(Raises.error))
    Raises.error = pudle.MissingDependency("install pudle[peers]")
    with pytest.raises(pudle.MissingDependency, match="install"):
        check(estimator, named("sparse coding", "lasso"))


def test_an_approximation_passes_and_its_distances_are_reported():
    """The damping leaves a fifth of the way from the window's derivative to the direct part."""
    specimen, check = named("square", "reconstruction"), conformance.CHECKS["approximation"]
    record = check(planted.Damped(), specimen)
    assert record.status == "passed"
    errors = {(target, depth): error for target, depth, error in record.distances}
    assert {target for target, _ in errors} == {"exact", "unrolled", "implicit"}
    assert {depth for _, depth in errors} == {2, 12, 60, 250}
    for (target, depth), error in errors.items():
        mine = 0.8 * specimen.unrolled(depth, 5) + 0.2 * specimen.unrolled(depth, 0)
        expected = pudle.reference(specimen.make()).gradient.numpy()
        if target != "exact":
            expected = getattr(specimen, target)(depth)
        distance = np.linalg.norm(mine - expected) / np.linalg.norm(expected)
        assert error == pytest.approx(distance, rel=1e-6, abs=1e-11)


def test_distances_are_printed_by_target_and_depth(capsys):
    distances = (conformance.Distance("exact", 2, 0.123), conformance.Distance("exact", 60, 4e-5))
    place = ("approximation", "penalty", "held_out", "ista")
    record = conformance.Record(*place, "passed", 0.25, 1.0, distances=distances)
    command.print_result(output(400), "planted", [record], everything=False)
    printed = capsys.readouterr().out
    (row,) = (line for line in printed.splitlines() if "held_out" in line)
    assert [cell.strip() for cell in row.split("│")[4:-1]] == ["exact", "0.12", "4e-05"]
    assert "at depth 60" in printed and printed.endswith("planted: 1 passed\n")


def test_a_complex_gradient_is_refused_and_not_cut_to_its_real_part():
    estimator = planted.spoiled(lambda gradient, problem, depth: gradient + 0j)
    record = conformance.CHECKS["claim"](estimator, named("sparse coding", "lasso"))
    assert record.status == "failed" and "complex" in record.reason


# --- the closed forms that estimators are compared with


def test_closed_forms_are_the_problems():
    """Loss, prox and layers of the package and of numpy agree, for all kinds of problems and all
    algorithms.
    """
    for specimen in (*VARIED, *DRAWN):
        problem, algorithm, form = specimen.make(), specimen.make_algorithm(), specimen.form
        result = algorithm.run(problem, 7).codes
        codes = result.flatten(1).numpy()
        assert np.abs(codes - form.codes(7)).max() <= ROUNDING * max(1, np.abs(codes).max())
        loss = complex(form.loss(codes, form.theta)).real
        assert float(problem.outer_loss(result)) == pytest.approx(loss, rel=ROUNDING)
        if specimen.problem != "iterations":
            lipschitz_constant = pytest.approx(form.lipschitz_constant, rel=1e-6)
            assert problem.lipschitz_constant == lipschitz_constant


@pytest.mark.parametrize(
    "specimen", specimens(algorithms=("fista(restart)", "ista(hard)")), ids=str
)
@pytest.mark.parametrize("window", [None, 3])
def test_derivatives_of_closed_forms_are_central_differences(specimen, window):
    form, gradient = specimen.form, specimen.unrolled(8, window)
    direction = np.random.default_rng(5).standard_normal(form.theta.shape)
    difference = oracles.central_difference(
        lambda at: form.loss(form.codes(8, at, window), at), form.theta, direction
    )
    size = np.linalg.norm(gradient) * np.linalg.norm(direction)
    size += abs(form.loss(form.codes(8), form.theta))
    assert abs(float((gradient * direction).sum()) - float(difference)) < DIFFERENCES * size


@pytest.mark.parametrize(
    "specimen", specimens("square", "convolutional", "penalty", "ridge"), ids=str
)
def test_implicit_gradient_of_closed_forms_is_the_certified_one(specimen):
    reference = pudle.reference(specimen.make())
    error = np.linalg.norm(specimen.implicit(3000) - reference.gradient.numpy())
    assert error < 1e-10 * float(reference.gradient.norm())


# --- the drawn specimens


#: Given by functions: no draw can vary them.
FIXED = (pudle.FixedPoint, pudle.Iteration)


def test_the_draws_vary_every_field_of_every_problem_algorithm_and_rule():
    """A new class, or a new field of one, fails here until its specimens vary it."""
    values: dict[tuple[str, str], set[str]] = {}
    for specimen in DRAWN:
        problem, algorithm = specimen.make(), specimen.make_algorithm()
        for owner in (problem, algorithm, algorithm.thresholding):
            for field in dataclasses.fields(owner):
                value = getattr(owner, field.name)
                shown = value.flatten()[0].item() if isinstance(value, torch.Tensor) else value
                values.setdefault((type(owner).__name__, field.name), set()).add(str(shown))
    modules = (pudle.problems, pudle.algorithms, thresholding)
    classes = [each for module in modules for each in vars(module).values()]
    bases = (pudle.Problem, pudle.algorithms.Algorithm, thresholding.Thresholding)
    expected = {
        (cls.__name__, field.name)
        for cls in classes
        if isinstance(cls, type) and issubclass(cls, bases) and not inspect.isabstract(cls)
        if cls not in FIXED
        for field in dataclasses.fields(cls)
    }
    assert len({name for name, _ in expected}) >= 10
    # NOODL refuses a start of another kind.
    assert {each for each in expected if len(values[each]) < 2} == {("Noodl", "initial")}


def test_the_draws_hold_all_sizes_and_layouts():
    shapes = [specimen.original.observations.shape for specimen in DRAWN]
    sizes = [specimen.original.theta.numel() for specimen in DRAWN]
    assert min(shape[0] for shape in shapes) == 1 and max(shape[0] for shape in shapes) > 1000
    assert {shape[1] for shape in shapes if len(shape) == 4} >= {1, 2, 3}
    assert min(sizes) == 1 and max(sizes) > 1000
    assert {specimen.make().observations.is_contiguous() for specimen in DRAWN} == {True, False}
    deepest = [max(specimen.depths) for specimen in DRAWN]
    assert max(deepest) > 400 and sum(depth > 100 for depth in deepest) > 20
    kinds = [{each.problem.split(" #")[0] for each in some} for some in (FEW, DRAWN)]
    assert kinds[0] == kinds[1]


def test_an_algorithm_of_another_class_is_compared_with_its_own_layers():
    """Heavy-ball layers know no closed form: they run at a complex theta themselves."""

    @dataclasses.dataclass(frozen=True)
    class HeavyBall(pudle.algorithms.Algorithm):
        name = "heavy_ball"

        def advance(self, problem, state, step):
            slope = problem.smooth_gradient(state.codes)
            moved = state.codes - step * slope + 0.5 * (state.codes - state.point)
            codes = problem.prox(moved, step, self.thresholding, state.iteration)
            return pudle.algorithms.State(codes, state.codes, iteration=state.iteration + 1)

    specimen = named("sparse coding", "reconstruction")
    specimen = dataclasses.replace(specimen, algorithm_for=lambda problem, initial: HeavyBall())
    record = conformance.CHECKS["claim"](pudle.make_estimator("backprop"), specimen)
    assert record.status == "passed", record.reason


# --- the command


ESTIMATOR = """
import ctypes, os, sys, time
from dataclasses import dataclass

import torch

from pudle import Estimate, GradientEstimator, MissingDependency, Ridge, UnsupportedProblem
from pudle.algorithms.unrolling import check_depths, unrolled_gradient


@dataclass(frozen=True)
class Mine(GradientEstimator):
    window: int = 4

    name = "mine"
    computes = "truncated"
    consistent_for = ()

    def estimate(self, problem, algorithm, depth):
        if not isinstance(problem, Ridge):
            # Most checks are refused, so that they take seconds.
            raise UnsupportedProblem("mine treats Ridge alone: use truncated instead")
        (depth,) = check_depths([depth])
        used = min(self.window, depth)
        with torch.no_grad():
            state = algorithm.run(problem, depth - used).states[depth - used]
        gradient, codes = unrolled_gradient(problem, algorithm, state, used)
        return Estimate(gradient, codes, {"layers_differentiated": used})
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Run `pudle check` on a file in this process, in a folder of its own."""

    def run(content: str | None, *arguments: str):
        monkeypatch.chdir(tmp_path)
        if content is not None:
            (tmp_path / "mine.py").write_text(content)
        monkeypatch.setattr(sys, "argv", ["pudle", "check", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code or 0, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_a_sound_file_passes_and_leaves_nothing(check, tmp_path):
    code, out, err = check(ESTIMATOR, "mine.py:Mine(window=3)")
    assert code == 0 and "mine.py:Mine(window=3): " in out and " failed" not in out.split("\n")[-2]
    assert err == "checking mine.py:Mine(window=3)\n"
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine.py"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("os._exit(0)", "the process ended with exit code 0"),
        ("time.sleep(100)", "not finished after"),
        ("ctypes.string_at(0)", "the process was ended by signal 11"),
    ],
)
def test_a_file_that_ends_or_hangs_in_estimate_has_failed(code, text, check):
    source = ESTIMATOR.replace("(depth,) =", f"{code}\n        (depth,) =")
    limit = ["--timeout", "20"] if "sleep" in code else []
    code, out, _ = check(source, "mine.py", *limit)
    line, *_ = [line for line in out.splitlines() if text in line]
    assert code == 1 and "failed" in line and "ridge" in line


@pytest.mark.slow
def test_a_defect_is_printed_with_number_and_reason_on_one_line(check):
    code, out, err = check(
        ESTIMATOR.replace("Estimate(gradient,", "Estimate(-gradient,"), "mine.py"
    )
    assert code == 1 and "Traceback" not in err
    line, *_ = [line for line in out.splitlines() if "negated" in line]
    for words in ("claim", "ridge", "linear", "ista", "2", "1e-09", "-1 times"):
        assert words in line


WRONG = {
    "no such class": (ESTIMATOR, "mine.py:Thyrd", "Thyrd"),
    "exits": ("import sys\nsys.exit(0)\n", "mine.py", "SystemExit"),
    "missing library": (
        "import pudle\nraise pudle.MissingDependency('install this first, please')",
        "mine.py",
        "install this first, please",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_is_one_line(name, check):
    content, spec, text = WRONG[name]
    code, out, err = check(content, spec)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert text in err and err.startswith("pudle: error: ")


def test_help_is_printed():
    assert "SPEC" in CliRunner().invoke(command.check_command, ["--help"]).output
