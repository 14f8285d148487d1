"""The checks find every planted defect and pass sound estimators; `pudle check` prints that."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import oracles
import planted
import pytest
import torch

import pudle
from pudle import cli, conformance
from pudle.algorithms import thresholding
from pudle.conformance import command, tolerances
from pudle.conformance.draws import DRAWN, FEW, depths_of
from pudle.conformance.specimens import ALGORITHMS, KINDS, Specimen, specimens
from pudle.terminal import output

#: Two programs for one expression in float64.
ROUNDING = 1e-12
#: Central differences at a step of 1e-5, over the scale of the loss.
DIFFERENCES = 1e-7

SOUND = {
    "unrolled": planted.Sound(),
    "truncated": planted.Window(),
    "stochastic": planted.Smoothing(),
    "implicit": planted.Implicit(),
    "approximate": planted.Damped(),
}
NAMED = tuple(name for name in KINDS if "#" not in name)
EVERY_SPECIMEN = (
    specimens(*NAMED, algorithms=tuple(name for name in ALGORITHMS if "#" not in name)) + DRAWN
)


@pytest.fixture(autouse=True)
def grad_mode():
    """One of the defects leaves the grad mode switched."""
    with torch.enable_grad():
        yield


# --- the checks


@pytest.mark.parametrize(
    "claim",
    [
        "unrolled",
        *(
            pytest.param(claim, marks=pytest.mark.nightly)
            for claim in ("truncated", "implicit", "stochastic", "approximate")
        ),
    ],
)
def test_sound_estimators_pass(claim):
    estimator = SOUND[claim]
    assert estimator.computes == claim
    records = conformance.check(estimator)
    assert not [record for record in records if record.status != "passed"]
    checked = {record.check for record in records}
    assert {"claim", "codes", "sweep", "form"} <= checked
    assert ("window" in checked) == (claim == "truncated")


@pytest.mark.parametrize(
    "defect",
    [
        pytest.param(name, marks=[pytest.mark.nightly] if name.startswith("late: ") else [])
        for name in planted.DEFECTS
    ],
)
def test_every_planted_defect_is_caught(defect):
    estimator, name, words = planted.DEFECTS[defect]
    check = conformance.CHECKS[name]
    for specimen in check.specimens(estimator):
        record = check(estimator, specimen)
        if record.status != "failed":
            continue
        assert record.check == name
        assert record.reason and len(record.reason.splitlines()) == 1
        if record.number is not None and record.limit is not None and name != "window":
            assert not record.number < record.limit
        # One specimen that shows the defect is enough: the others take long.
        if words in record.reason:
            return
    # A failure of the estimator as a whole, such as refusing every problem.
    failed = [
        record
        for record in conformance.check(estimator, names=(name,))
        if record.status == "failed"
    ]
    assert [record.check for record in failed] == [name] and words in failed[0].reason


def test_a_failure_has_the_specimen_and_the_number():
    estimator, _, _ = planted.DEFECTS["scaled by n"]
    record = conformance.CHECKS["claim"](estimator, conformance.GRID[0])
    assert (record.problem, record.loss, record.algorithm) == ("sparse coding", "lasso", "ista")
    assert record.number == pytest.approx(16, rel=1e-9) and record.limit == tolerances.EXACT


def test_refusals_are_records_with_the_reason():
    records = conformance.check(planted.MovingStep(), names=("codes",))
    refused = [record for record in records if record.status == "refused"]
    assert {record.problem for record in refused} >= {"ridge", "penalty"}
    assert {record.reason for record in refused} == {
        "planted treats dense dictionaries under ista: use backprop instead"
    }


def test_an_exception_without_a_text_is_named():
    class Silent(planted.Sound):
        def estimate(self, problem, algorithm, depth):
            raise ValueError

    record = conformance.CHECKS["claim"](Silent(), conformance.GRID[0])
    assert record.status == "failed"
    assert record.reason.startswith(
        "raised ValueError with an empty message; raise UnsupportedProblem"
    )


def test_a_missing_library_is_neither_passed_nor_failed(check, tmp_path):
    text = "install pudle[peers]: nothing_of_this_name is not installed"

    class Needs(planted.Sound):
        def estimate(self, problem, algorithm, depth):
            raise pudle.MissingDependency(text)

    with pytest.raises(pudle.MissingDependency, match="install"):
        conformance.check(Needs(), names=("claim",))
    needs = "raise MissingDependency('install this first, please')"
    source = ESTIMATOR.replace("(depth,) = check_depths([depth])", needs)
    (tmp_path / "mine.py").write_text(
        source.replace("import Estimate", "import MissingDependency, Estimate")
    )
    done = check("mine.py")
    assert done.code == 2
    assert done.err.endswith("pudle: error: install this first, please\n")


def test_a_heuristic_passes_where_the_direct_part_is_zero():
    estimator = planted.spoiled(
        lambda gradient, problem, depth: gradient, computes="heuristic", consistent_for=()
    )()
    (record,) = [
        r
        for r in conformance.check(estimator, names=("claim",))
        if (r.problem, r.algorithm) == ("penalty", "ista")
    ]
    assert record.status == "passed"


def test_an_approximation_passes_and_its_distances_are_reported():
    """The damping leaves a fifth of the way from the window's derivative to the direct part, which
    is known.
    """
    records = conformance.check(planted.Damped(), names=("claim",))
    assert {record.status for record in records} == {"passed"}
    for record in records:
        specimen = Specimen(record.problem, record.loss, record.algorithm)
        errors = {(target, depth): error for target, depth, error in record.distances}
        assert {target for target, _ in errors} == {"exact", "unrolled", "implicit"}
        assert {depth for _, depth in errors} == {2, 12, 60, 250}
        for (target, depth), error in errors.items():
            mine = 0.8 * specimen.unrolled(depth, 5) + 0.2 * specimen.direct(depth)
            exact = pudle.reference(specimen.make()).gradient.numpy() if target == "exact" else None
            expected = getattr(specimen, target)(depth) if exact is None else exact
            distance = np.linalg.norm(mine - expected) / np.linalg.norm(expected)
            assert error == pytest.approx(distance, rel=1e-6, abs=1e-11)


def test_distances_are_printed_by_target_and_depth(capsys):
    found = (conformance.Distance("exact", 2, 0.123), conformance.Distance("exact", 60, 4e-5))
    record = conformance.Record(
        "claim", "penalty", "held_out", "ista", "passed", 0.25, 1.0, distances=found
    )
    command.print_result(output(400), "planted", [record], everything=False)
    printed = capsys.readouterr().out
    (row,) = (line for line in printed.splitlines() if "held_out" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "penalty",
        "held_out",
        "ista",
        "exact",
        "0.12",
        "4e-05",
    ]
    assert "at depth 60" in printed and printed.endswith("planted: 1 passed\n")


def test_other_claims_report_no_distances():
    records = conformance.check(SOUND["truncated"], names=("claim", "form"))
    assert not [record for record in records if record.distances]


def test_a_complex_gradient_is_refused_and_not_cut_to_its_real_part():
    estimator = planted.spoiled(lambda gradient, problem, depth: gradient + 0j)()
    record = conformance.CHECKS["claim"](estimator, conformance.GRID[0])
    assert record.status == "failed" and "complex" in record.reason


def test_progress_is_reported():
    steps = []
    conformance.check(
        planted.Sound(), lambda *step: steps.append(step), names=("description", "sweep")
    )
    total = steps[-1][-1]
    assert steps[0] == ("description", 0, total) and steps[-1] == ("done", total, total)


def test_global_random_state_is_put_back():
    before = torch.get_rng_state()
    conformance.check(planted.GlobalDraws(), names=("random_state",))
    assert torch.equal(torch.get_rng_state(), before)


# --- the models that estimators are compared with


@pytest.mark.parametrize("specimen", EVERY_SPECIMEN, ids=str)
def test_models_are_the_problems(specimen):
    """Loss, prox and layers of the package and of numpy agree, for all kinds of problems and all
    algorithms.
    """
    problem, algorithm, model = specimen.make(), specimen.make_algorithm(), specimen.model
    trajectory = algorithm.run(problem, 7)
    codes = trajectory.codes.flatten(1).numpy()
    assert np.abs(codes - specimen.codes(7)).max() <= ROUNDING * max(1, np.abs(codes).max())
    loss = float(model.loss(codes, model.theta))
    assert float(problem.outer_loss(trajectory.codes)) == pytest.approx(loss, rel=ROUNDING)
    assert problem.lipschitz_constant == pytest.approx(model.lipschitz_constant, rel=1e-6)


@pytest.mark.parametrize(
    "specimen", specimens(*NAMED, algorithms=("ista", "fista(restart)", "ista(hard)")), ids=str
)
@pytest.mark.parametrize("window", [None, 3])
def test_derivatives_of_the_models_are_central_differences(specimen, window):
    model, layers = specimen.model, specimen.layers
    gradient = specimen.unrolled(8, window)
    direction = np.random.default_rng(5).standard_normal(model.theta.shape)
    difference = oracles.central_difference(
        lambda at: model.loss(model.codes(layers, 8, at, window), at), model.theta, direction
    )
    size = np.linalg.norm(gradient) * np.linalg.norm(direction) + abs(
        model.loss(specimen.codes(8), model.theta)
    )
    assert abs(float((gradient * direction).sum()) - float(difference)) < DIFFERENCES * size


@pytest.mark.parametrize(
    "specimen", specimens("square", "convolutional", "penalty", "ridge"), ids=str
)
def test_implicit_gradient_of_the_models_is_the_certified_one(specimen):
    reference = pudle.reference(specimen.make())
    assert reference.status == "certified"
    exact = specimen.model.implicit(reference.codes.flatten(1).numpy())
    assert np.linalg.norm(exact - reference.gradient.numpy()) < 1e-10 * float(
        reference.gradient.norm()
    )


# --- the draws


def values_drawn() -> dict[tuple[str, str], set[object]]:
    """Return the values that the drawn specimens give to every field of every problem, algorithm
    and thresholding rule.
    """
    values: dict[tuple[str, str], set[object]] = {}
    for specimen in DRAWN:
        problem, algorithm = specimen.make(), specimen.make_algorithm()
        for owner in (problem, algorithm, algorithm.thresholding):
            for field in dataclasses.fields(owner):
                value = getattr(owner, field.name)
                seen = value.flatten()[0].item() if isinstance(value, torch.Tensor) else value
                values.setdefault((type(owner).__name__, field.name), set()).add(str(seen))
    return values


def public(module: object, base: type) -> list[type]:
    """Return the concrete subclasses of a class that a module holds."""
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base)
    ]
    return [cls for cls in classes if not inspect.isabstract(cls)]


def test_the_draws_vary_every_field_of_every_problem_algorithm_and_rule():
    """A new class, or a new field of one, fails here until the draws vary it."""
    values = values_drawn()
    classes = public(pudle.problems, pudle.Problem) + public(pudle.algorithms, pudle.Algorithm)
    classes += public(thresholding, thresholding.Thresholding)
    # Given by functions: no draw can vary them, and they have tests of their own.
    classes = [cls for cls in classes if cls not in (pudle.FixedPoint, pudle.Iteration)]
    assert len(classes) >= 10
    expected = {(cls.__name__, field.name) for cls in classes for field in dataclasses.fields(cls)}
    assert expected - values.keys() == set()
    # NOODL refuses a start of another kind.
    assert {place for place in expected if len(values[place]) < 2} == {("Noodl", "initial")}


def test_the_draws_hold_all_sizes_and_layouts():
    shapes = [specimen.make().observations.shape for specimen in DRAWN]
    thetas = [specimen.model.theta.size for specimen in DRAWN]
    assert min(shape[0] for shape in shapes) == 1 and max(shape[0] for shape in shapes) > 1000
    assert {shape[1] for shape in shapes if len(shape) == 4} >= {1, 2, 3}
    assert min(thetas) == 1 and max(thetas) > 1000, max(thetas)
    assert {specimen.make().observations.is_contiguous() for specimen in DRAWN} == {True, False}
    deepest = [max(depths_of(specimen)) for specimen in DRAWN]
    assert max(deepest) > 400 and sum(depth > 100 for depth in deepest) > 20
    assert {specimen.problem.split(" #")[0] for specimen in FEW} == {
        specimen.problem.split(" #")[0] for specimen in DRAWN
    }


# --- the command


ESTIMATOR = """
from dataclasses import dataclass

import torch

from pudle import Estimate, GradientEstimator
from pudle.algorithms.unrolling import check_depths, unrolled_gradient


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


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Run `pudle check` in this process, in a folder of its own."""

    def run(*arguments: str) -> SimpleNamespace:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["pudle", "check", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=caught.value.code or 0, out=out, err=err)

    return run


#: Refuses all problems but one, so that a check takes seconds: the sound estimators of the suite go
#: through all of them.
REFUSAL = """        if not isinstance(problem, Ridge):
            raise UnsupportedProblem(f"mine treats Ridge, not {type(problem).__name__}: use truncated instead")
"""


def test_a_sound_file_passes_in_a_process_of_its_own(tmp_path):
    source = ESTIMATOR.replace("import Estimate,", "import Estimate, Ridge, UnsupportedProblem,")
    source = source.replace("        (depth,)", REFUSAL + "        (depth,)").replace(
        '("lasso",)', "()"
    )
    (tmp_path / "mine.py").write_text(source)
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    done = subprocess.run(
        [sys.executable, "-m", "pudle", "check", "mine.py:Mine(window=3)"],
        cwd=tmp_path,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"mine\.py:Mine\(window=3\): \d\d passed, \d{3} refused\n", done.stdout)
    assert done.stderr == "checking mine.py:Mine(window=3)\n"
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine.py"}


def test_a_defect_is_printed_with_number_and_reason_on_one_line(check, tmp_path):
    (tmp_path / "mine.py").write_text(
        ESTIMATOR.replace("Estimate(gradient,", "Estimate(-gradient,")
    )
    done = check("mine.py")
    assert done.code == 1
    line, *_ = [line for line in done.out.splitlines() if "negated" in line]
    for words in (
        "claim",
        "sparse coding",
        "lasso",
        "ista",
        "2",
        "1e-09",
        "-1 times the derivative through 2 of 2 layers",
    ):
        assert words in line
    assert "more like these are printed with --all" in done.out
    assert "Traceback" not in done.err


@pytest.mark.nightly
def test_several_targets_end_in_a_table_by_problem(check, tmp_path):
    (tmp_path / "mine.py").write_text(ESTIMATOR.replace("window: int = 4", "window: int = 1"))
    done = check("mine.py", "alternating")
    assert done.code == 0, done.out
    table = done.out[done.out.index("All checks by problem") :]
    for specimen in conformance.GRID:
        (row,) = (
            line
            for line in table.splitlines()
            if [cell.strip() for cell in line.split("│")[1:4]]
            == [specimen.problem, specimen.loss, specimen.algorithm]
        )
        assert [cell.strip() for cell in row.split("│")[4:6]] == ["passed", "passed"]


ENDS = {
    "exits the process": ("os._exit(0)", "the process ended with exit code 0"),
    "exits": ("sys.exit(0)", "raised SystemExit: 0"),
    "hangs": ("time.sleep(100)", "not finished after"),
    "segmentation fault": ("ctypes.string_at(0)", "the process was ended by signal 11"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_a_file_that_ends_or_hangs_in_estimate_has_failed(name, check, tmp_path):
    code, text = ENDS[name]
    source = ESTIMATOR.replace(
        "(depth,) = check_depths([depth])", f"(depth,) = check_depths([depth])\n        {code}"
    )
    (tmp_path / "mine.py").write_text("import ctypes, os, sys, time\n" + source)
    done = check("mine.py", *(["--timeout", "8"] if name == "hangs" else []))
    assert done.code == 1
    line, *_ = [line for line in done.out.splitlines() if text in line]
    assert "failed" in line


@pytest.mark.slow
@pytest.mark.parametrize("code", ["os._exit(0)", "time.sleep(100)"])
def test_a_file_that_ends_or_hangs_at_import_is_one_line(code, check, tmp_path):
    (tmp_path / "mine.py").write_text(f"import os, time\n{code}\n{ESTIMATOR}")
    done = check("mine.py", "--timeout", "8")
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("pudle: error: mine.py ") and done.err.count("\n") == 1
    assert (
        "ends the whole process with exit code 0" if "exit" in code else "not finished after 8 s"
    ) in done.err


TWO = ESTIMATOR + "\n\n@dataclass(frozen=True)\nclass Second(Mine):\n    name = 'second'\n"
WRONG = {
    "no file": (
        None,
        ["mine.py"],
        "mine.py cannot be read (No such file or directory): give the path of a .py file",
    ),
    "empty": (
        "",
        ["mine.py"],
        "mine.py holds 0 estimators (none): derive a class from pudle's GradientEstimator",
    ),
    "two": (
        TWO,
        ["mine.py"],
        "mine.py holds 2 estimators (Mine, Second): name one of them, as mine.py:Mine",
    ),
    "no such class": (
        TWO,
        ["mine.py:Thyrd"],
        "mine.py holds no estimator 'Thyrd': it has Mine, Second",
    ),
    "no name": (
        ESTIMATOR.replace('name = "mine"', ""),
        ["mine.py"],
        "mine.py: Mine lacks name: correct the file",
    ),
    "import error": (
        "\n\nimport nothing_of_this_name",
        ["mine.py"],
        "mine.py cannot be imported (line 3): ModuleNotFound",
    ),
    "syntax error": ("def f(:\n", ["mine.py"], "mine.py cannot be imported (line 1): SyntaxError"),
    "exits": (
        "import sys\nsys.exit(0)\n",
        ["mine.py"],
        "mine.py cannot be imported (line 2): SystemExit: 0",
    ),
    "unknown argument": (
        ESTIMATOR,
        ["mine.py(windw=3)"],
        "mine.py has no argument 'windw' (did you mean 'window'?)",
    ),
    "argument that calls": (
        ESTIMATOR,
        ["mine.py:Mine(window=exit())"],
        "a spec never calls or computes",
    ),
    "positional argument": (ESTIMATOR, ["mine.py(3)"], "by its name"),
    "unknown estimator": (
        None,
        ["backprp"],
        "unknown estimator 'backprp' (did you mean 'backprop'?)",
    ),
    "nothing": (None, [], "Missing argument 'SPEC...'"),
}


def test_help_does_not_wait_for_torch():
    code = "import sys, pudle.conformance.command; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_is_one_line(name, check, tmp_path):
    content, arguments, text = WRONG[name]
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    done = check(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert text in done.err
    assert done.err.startswith("pudle: error: ") and done.err.count("\n") == 1, done.err
