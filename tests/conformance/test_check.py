"""The checks find every planted defect and pass sound estimators; `pudle check` prints that."""

import dataclasses
import inspect
import re
from collections import defaultdict

import numpy as np
import pytest
import torch
from support.estimators import planted
from support.oracles import in_numpy
from support.processes.commands import InThisProcess

import pudle
from pudle import cli, conformance
from pudle.algorithms import thresholding
from pudle.algorithms.unrolling import direct_gradients
from pudle.conformance import check_command
from pudle.conformance.claims import TINY
from pudle.conformance.explanations import KnownMistake, explain
from pudle.conformance.records import DRAWN_OPTIONS, CheckRecord, option_in_words
from pudle.conformance.specimens import DRAWN, GRID, OPTIONS, named_specimen, specimens
from pudle.conformance.truth import Implicit
from pudle.estimator import through_minimizer
from pudle.estimators.analytic import Analytic
from pudle.workers import Pool

#: Two programs for one expression in float64.
ROUNDING = 1e-12


@pytest.fixture(autouse=True)
def grad_mode():
    """One of the defects leaves the grad mode switched."""
    with torch.enable_grad():
        yield


# --- the checks


def planted_defects():
    """Return every defect with its check; all but the first of each check are nightly, and those
    that are unrolled for long.
    """
    return [
        pytest.param(
            check,
            name,
            marks=[pytest.mark.nightly] if number or check == "direction" else [],
        )
        for check, defects in planted.DEFECTS.items()
        for number, name in enumerate(defects)
    ]


@pytest.mark.parametrize(("check", "name"), planted_defects())
def test_every_planted_defect_is_caught(check, name):
    estimator, words = planted.DEFECTS[check][name], planted.EXPLAINED.get(name, "")
    for subject in conformance.CHECKS[check].subjects(estimator):
        record = conformance.CHECKS[check](subject)
        # One specimen that shows the defect is enough: the others take long.
        if record.status == "failed" and words in record.reason:
            assert record.check == check and len(record.reason.splitlines()) == 1
            assert words or "raised" not in record.reason
            assert not record.measured or not record.measured.number < record.measured.limit
            return
    # A failure of the estimator as a whole, such as refusing every problem.
    records = conformance.check(estimator, names=(check,))
    assert words in [record.reason for record in records if record.status == "failed"][-1]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_choice_of_the_list_is_drawn(name):
    drawn = " ".join(f"{specimen}," for specimen in DRAWN)
    assert [value for value in OPTIONS[name] if f" {name}={value}," not in drawn] == []


def test_options_are_drawn_in_pairs():
    """A mistake often needs two options, such as a restart and images."""
    met = defaultdict(set)
    for specimen in (specimen for specimen in DRAWN if hasattr(specimen.original, "penalty")):
        algorithm = specimen.originals[1]
        rule, step, warm = algorithm.thresholding, algorithm.step, algorithm.initial
        for option in (("step", step is None), ("start", warm is None)):
            met[specimen.problem.partition("#")[0]].add((type(rule).__name__, *option))
    assert min(map(len, met.values())) >= 14


def test_every_check_has_a_planted_defect():
    assert planted.DEFECTS.keys() == conformance.CHECKS.keys()


def checked(estimator, check="claim", *specimen):
    """Return the record of a check on one specimen."""
    subject = conformance.Subject(
        estimator, named_specimen(*specimen or ("sparse coding", "lasso"))
    )
    return conformance.CHECKS[check](subject)


def printed_result(records, **options):
    descriptions = {record.check: "planted" for record in records}
    return check_command.print_result("planted", descriptions, records, **options)


def test_exceptions_are_failures_refusals_or_passed_on():
    def outcome(error):
        def fail(*_):
            raise error

        record = checked(planted.instead(fail))
        return record.status, record.reason

    status, reason = outcome(ValueError())
    assert status == "failed" and "raised ValueError at planted.py:" in reason
    assert "): an empty message; " in reason
    refusal = "mine treats no problem at all: use backprop instead"
    assert outcome(pudle.UnsupportedProblem(refusal)) == ("refused", refusal)
    with pytest.raises(pudle.MissingDependency, match="install"):
        outcome(pudle.MissingDependency("install pudle[peers]"))


def test_distances_of_an_approximation_are_reported_and_printed(capsys):
    """The damping leaves a fifth of the way from the window's derivative to the direct part."""

    def damped(*arguments):
        window, direct = (
            pudle.make_estimator(spec).estimate(*arguments).gradient
            for spec in ("truncated(window=5)", "alternating")
        )
        result = pudle.make_estimator("phantom").estimate(*arguments)
        return dataclasses.replace(result, gradient=0.8 * window + 0.2 * direct)

    form = in_numpy.form_of(named_specimen("square", "reconstruction"))
    estimator = planted.instead(damped, pudle.make_estimator("phantom"))
    record = checked(estimator, "direction", "square", "reconstruction")
    assert record.status == "passed"
    exact = pudle.reference(form.problem).gradient.numpy()
    for target, depth, error in record.distances:
        gradient = 0.8 * form.unrolled(depth, 5) + 0.2 * form.unrolled(depth, 0)
        expected = exact if target == "exact" else getattr(form, target)(depth)
        distance = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
        assert error == pytest.approx(distance, rel=1e-6, abs=1e-11)
    printed_result([record], verbose=True)
    printed = capsys.readouterr().out
    for target, depth, error in record.distances:
        assert f"depth {depth}: relative distance {error:.2g} from the {target}" in printed
    # Without the option there is one line for each gradient.
    printed_result([record])
    printed = capsys.readouterr().out
    deepest = max(depth for _, depth, _ in record.distances)
    assert printed.count("relative distance") == 3
    for target, depth, error in record.distances:
        if depth == deepest:
            line = (
                f"relative distance from the {target} gradient at depth {depth}: median {error:.2g}"
            )
            assert line in printed


def test_failures_are_printed_first_and_all_of_them_on_request(capsys):
    passed = [CheckRecord("claim", f"passed {number}", "passed") for number in range(9)]
    failed = [
        CheckRecord("claim", f"failed {number}", "failed", reason=f"reason {number}")
        for number in range(9)
    ]
    refused = [CheckRecord("samples", "refused", "refused", reason="a reason to refuse it")]
    printed_result([*passed, *refused, *failed])
    lines = capsys.readouterr().out.splitlines()
    kinds = [line.partition(":")[0] for line in lines]
    assert kinds == [
        "planted",
        *["failed"] * 4,
        "claim",
        "samples",
        "What the estimator refuses with a reason is no failure",
        "refused",
        "planted",
    ]
    assert lines[4].endswith("(5 more like it)")
    printed_result([*passed, *refused, *failed], verbose=True)
    assert capsys.readouterr().out.count("\nfailed: ") == 9


def test_what_is_not_tested_of_an_approximation_is_said(check, monkeypatch):
    """In one line, unless it names the gradient that it tends to."""
    monkeypatch.setattr(check_command, "Pool", InThisProcess)
    says = "nothing beyond shape, dtype, determinism, the direct part and an angle below 90 degrees"
    for name, is_said in (("phantom", True), ("fixed_point(terms=3)", False), ("backprop", False)):
        code, out, _ = check(name, "--quick", "-k", "description")
        assert code == 0 and (says in out) == is_said


UNDECORATED = """
import pudle

class Mine(pudle.GradientEstimator):
    name = "mine"
    computes = "unrolled"
    OPTION
    def estimate(self, problem, algorithm, depth):
        return pudle.make_estimator("backprop").estimate(problem, algorithm, depth)
"""


def test_a_file_without_options_needs_no_dataclass(check, monkeypatch):
    """It ended in `replace() should be called on dataclass instances`."""
    monkeypatch.setattr(check_command, "Pool", InThisProcess)
    code, out, _ = check(
        "mine.py", "--quick", "-k", "sparse and lasso", mine=UNDECORATED.replace("OPTION", "")
    )
    assert code == 0 and "failed" not in out, out
    # An option would be lost.
    lost = UNDECORATED.replace("OPTION", "window: int = 3")
    code, _, err = check("lost.py", "--quick", lost=lost)
    assert code == 2 and err.count("\n") == 1
    assert "Mine has the option window and is no dataclass: write @dataclass(frozen=True)" in err


def test_errors_of_one_line_are_one_line(capsys):
    def fail(problem, *_):
        raise ValueError(str(problem.theta.shape))

    records = conformance.check(planted.instead(fail), names=("single_precision",))
    assert len({record.reason for record in records}) > 1
    printed_result(records)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "raised" in line]
    # Where layers are not differentiated, the base refuses for it.
    more = sum(record.status == "failed" for record in records) - 1
    where = "failed: single_precision[sparse coding-lasso-ista]: raised ValueError at planted.py:"
    assert line.startswith(where) and line.endswith(f" ({more} more like it)")


def newton(problem, algorithm, depth):
    """Differentiate implicitly after a Newton step, which solves a problem without a penalty."""
    codes = algorithm.run(problem, depth).codes
    refined = codes - problem.solve_active(codes, problem.stationarity(codes))[0]
    direct, right = direct_gradients(problem, refined)
    solution, _ = problem.solve_active(refined, right)
    return pudle.Estimate(direct + through_minimizer(problem, refined, solution), codes.detach())


def of_next_layer(problem, algorithm, depth):
    """Differentiate implicitly on the support of the next layer, as fixed points of layers do."""
    codes = algorithm.run(problem, depth).codes
    after = pudle.Ista().plain_layer(problem, codes, algorithm.step_size(problem), 0)
    direct, right = direct_gradients(problem, codes)
    solution, _ = problem.solve_active(after, right)
    return pudle.Estimate(direct + through_minimizer(problem, codes, solution), codes.detach())


#: Right estimators, with a check that once failed one like it.
RIGHT = {
    "a layer ahead, in small units": (
        planted.instead(of_next_layer, Analytic()),
        "claim",
        ("bernoulli_gaussian #93",),
    ),
    "exact beyond the codes": (planted.instead(newton, Analytic()), "claim", ("ridge",)),
    "singular in single precision": (Analytic(), "single_precision", ()),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_estimators_in_unusual_styles_pass(name):
    estimator, check, problems = RIGHT[name]
    for subject in conformance.CHECKS[check].subjects(estimator):
        if not problems or subject.specimen.problem.startswith(problems):
            record = conformance.CHECKS[check](subject)
            assert record.status != "failed", record


@pytest.mark.parametrize("unit", [1.0, 2.0**-52])
def test_mistakes_have_the_same_name_in_all_units(unit):
    expected, another = unit * np.arange(1.0, 7), unit * np.arange(7.0, 1, -1)
    mistakes = [KnownMistake("nothing", 0 * expected), KnownMistake("the other", another)]
    for array, name in (
        (another, "the other"),
        (0 * expected, "nothing"),
        (3 * expected, "3 times that"),
    ):
        assert explain(array, expected, "it", mistakes).text.startswith(name)
    assert explain(0 * expected, expected, "it").text == "zero, instead of it"
    other = explain(another[::-1] * [1, 1, 1, 1, 1, 2], expected, "it", mistakes)
    assert "nothing" not in other.text and {"nothing", "the other"} < {*other.compared}


def test_mistakes_that_come_to_the_same_are_both_named():
    """Half of the path is half of the gradient where there is no direct part, and not elsewhere."""
    expected = np.arange(1.0, 7)
    mistakes = [KnownMistake("the other", expected[::-1]), KnownMistake("half of it", expected / 2)]
    both = "a factor 1/2 too many, here the same as half of it, instead of the gradient"
    assert explain(expected / 2, expected, "the gradient", mistakes) == (both, ())
    alone = "a factor 1/2 too many, instead of the gradient"
    assert explain(expected / 2, expected, "the gradient", mistakes[:1]) == (alone, ())


def test_where_no_known_mistake_fits_all_that_were_compared_are_listed_once(capsys):
    expected, random = np.arange(1.0, 7), np.random.default_rng(0)
    mistakes = [
        KnownMistake(f"the last {number} alone", random.standard_normal(6), "fewer of the last")
        for number in range(3)
    ]
    text, compared = explain(random.standard_normal(6), expected, "it", mistakes)
    assert text.endswith(" from it: no known mistake fits")
    assert compared[-2:] == ("another multiple", "fewer of the last")
    failed = [CheckRecord("claim", "", "failed", reason=text, compared=compared) for _ in range(3)]
    printed_result(failed)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "compared" in line]
    assert line.startswith("where no known mistake fits, these were compared: negated; a factor")
    assert line.count("fewer of the last") == 1
    printed_result([CheckRecord("claim", "", "failed", reason="negated, instead of it")])
    assert "compared" not in capsys.readouterr().out


@pytest.mark.parametrize("size", [1, 6])
def test_a_cosine_is_shown_where_there_is_an_angle_and_with_its_digits(size):
    expected = np.arange(1.0, 1 + size)
    text = explain(expected + 0.01 * np.eye(size)[0], expected, "it").text
    assert ("cosine 1 - " in text) == (size > 1)
    if size > 1:
        shift = 0.01
        exact = 1 - (91 + shift) / np.sqrt(91 * (91 + 2 * shift + shift**2))
        assert float(text.partition("1 - ")[2].partition(")")[0]) == pytest.approx(exact, rel=0.06)


def test_the_losses_that_consistent_for_may_name_are_said(capsys):
    """Where the error vanishes for some losses and stays for others."""
    statuses = {"lasso": "passed", "linear": "failed", "reconstruction": "failed", "function": ""}
    records = [
        CheckRecord("consistency", loss, status or "failed", loss=loss)
        for loss, status in statuses.items()
    ]
    records += [CheckRecord("consistency", "", "passed", loss="linear")]
    printed_result(records)
    expected = (
        "the error vanishes with depth for lasso, and not for linear, reconstruction: if that is"
        ' all that the method can do, write consistent_for = ("lasso",)\n'
    )
    assert expected in capsys.readouterr().out
    printed_result(records[1:])
    assert "for no loss, and not for" in (said := capsys.readouterr().out)
    assert "consistent_for = ()\n" in said
    printed_result(records[:1])
    assert "vanishes" not in capsys.readouterr().out


def test_what_draws_that_failed_have_in_common_is_told(capsys):
    """Of options that most of those that passed have as well, nothing is told."""
    drawn = [("failed", "a, b=1, c=2"), ("failed", "z, b=1, c=2"), ("refused", "b=1")]
    drawn += [("passed", "a, b=0, c=2"), ("passed", "z, b=0, c=2")]
    records = [CheckRecord("claim", "", status, drawn=options) for status, options in drawn]
    printed_result(records)
    expected = "the 2 drawn problems that failed have in common, unlike most that passed: b=1\n"
    assert expected in capsys.readouterr().out
    printed_result(records[1:])
    assert "in common" not in capsys.readouterr().out


def test_drawn_options_are_said_in_words():
    """None is an internal name: what is printed as it is belongs to a dataset or an algorithm."""
    public = {"rule", "restart", "algorithm", "loss", *OPTIONS}
    options = {option for specimen in DRAWN for option in re.split(r", (?=\w)", specimen.drawn)}
    for option in options:
        words = option_in_words(option)
        assert words != option or option.partition("=")[0] in public, option
        assert "True" not in words or words == option
    assert {*DRAWN_OPTIONS} <= options
    assert option_in_words("warm_start=2.0") == "codes that start at random, of size 2.0"
    assert option_in_words("another dictionary=True") == "dictionary changed"


def test_options_are_blamed_only_where_draws_alone_fail_and_more_than_one(capsys):
    """Two checks may fail on one draw; and what fails on a named specimen is not due to options."""
    passed = [CheckRecord("claim", "", "passed", drawn="z, b=0")]
    for drawn in (("a, b=1", "a, b=1"), ("a, b=1", "c, b=1", "")):
        failed = [CheckRecord("claim", "", "failed", drawn=options) for options in drawn]
        printed_result(failed + passed)
        assert "in common" not in capsys.readouterr().out, drawn


# --- the truth that estimators are compared with


@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.nightly), pytest.param(7, id="some")]
)
def test_the_truth_is_what_numpy_computes(every):
    """Codes, and derivatives along a direction: through layers, and by the implicit function
    theorem. Smooth problems have a test of their own, tests/algorithms/test_smooth.py.
    """
    for specimen in (*GRID, *DRAWN, *TINY)[::every]:
        if isinstance(specimen.original, pudle.StronglyConvex):
            continue
        truth, form = specimen.truth, in_numpy.form_of(specimen)
        expected, size = form.codes(7).reshape(truth.codes(7).shape), abs(truth.codes(7)).max()
        assert np.abs(truth.codes(7) - expected).max() <= ROUNDING * max(size, 1)
        functions = [
            (form.remaining(6, ahead=ahead), truth.implicit(6, ahead=ahead))
            for ahead in (False, True)
        ]
        if truth.algorithm.differentiable:
            layers = [
                (form.loss_through(8, window), truth.unrolled(8, window)) for window in (None, 3)
            ]
            functions += [(loss, Implicit(gradient, 1.0)) for loss, gradient in layers]
        direction = np.random.default_rng(5).standard_normal(form.theta.shape)
        for function, (gradient, condition) in functions:
            error = (gradient * direction).sum() - in_numpy.complex_step(
                function, form.theta, direction
            )
            size = max(np.linalg.norm(gradient), 1e-6 * truth.scale(8)) * np.linalg.norm(direction)
            assert condition > 1e8 or abs(error) <= ROUNDING * max(condition, 1) * size, specimen


@pytest.mark.parametrize(
    "specimen", specimens("square", "convolutional", "penalty", "ridge"), ids=str
)
def test_implicit_gradients_become_the_certified_one(specimen):
    reference = pudle.reference(specimen.original)
    error = np.linalg.norm(specimen.truth.implicit(3000).gradient - reference.gradient.numpy())
    assert error < 1e-10 * float(reference.gradient.norm())


# --- the drawn specimens


STEPLESS = ("ActiveSet", "CoordinateDescent", "Iteration", "NewtonCg")


def test_the_draws_vary_every_field_of_every_problem_algorithm_and_rule():
    """A new class, or a new field of one, fails here until its specimens vary it."""
    values = {}
    for specimen in DRAWN:
        problem, algorithm = specimen.originals
        for owner in (problem, algorithm, algorithm.thresholding):
            for field in dataclasses.fields(owner):
                value = getattr(owner, field.name)
                value_shown = (
                    value.flatten()[0].item() if isinstance(value, torch.Tensor) else value
                )
                values.setdefault((type(owner).__name__, field.name), set()).add(str(value_shown))
    modules = (pudle.problems, pudle.algorithms, thresholding)
    classes = [entry for module in modules for entry in vars(module).values()]
    bases = (pudle.Problem, pudle.algorithms.Algorithm, thresholding.Thresholding)
    expected = {
        (cls.__name__, field.name)
        for cls in classes
        if isinstance(cls, type) and issubclass(cls, bases) and not inspect.isabstract(cls)
        for field in dataclasses.fields(cls)
        # The list in docs does not name NOODL's iteration.
        if cls is not pudle.Noodl
    }
    # Some algorithms have neither step nor rule, and how an iteration is solved is no estimator's
    # business.
    fixed = {(name, field) for name in STEPLESS for field in ("step", "thresholding")}
    fixed.add(("FixedPoint", "solution"))
    fixed |= {(name, "thresholding") for name in ("Accelerated", "GradientDescent")}
    # No estimator sees what codes are compared with.
    values |= dict.fromkeys((entry for entry in expected if "generating" in entry[1]), "12")
    assert {entry for entry in expected if len(values.get(entry, ())) < 2} == fixed


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
    """Run `pudle check` on files in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.py").write_text(content)
        return cli.run(["check", *arguments]), *capsys.readouterr()

    return run


def test_a_sound_file_passes_and_a_defect_is_printed_with_number_and_reason(
    check, tmp_path, monkeypatch
):
    monkeypatch.setattr(check_command, "Pool", InThisProcess)
    wrong = ESTIMATOR.replace("Estimate(gradient,", "Estimate(-gradient,")
    code, out, err = check("mine.py:Mine(window=3)", "wrong.py", mine=ESTIMATOR, wrong=wrong)
    announcement = (
        r"checking (mine.py:Mine\(window=3\)|wrong.py:Mine): \d+ steps, about \d+ s of processor"
        " time if it is as fast as backprop, and 4 times that if it runs a pass for every entry .*"
    )
    assert code == 1 and all(re.fullmatch(announcement, line) for line in err.splitlines())
    (sound,) = [line for line in out.splitlines() if line.startswith("mine.py:Mine(window=3): ")]
    assert "passed" in sound and "failed" not in sound
    line, *_ = [line for line in out.splitlines() if "negated" in line]
    assert line.startswith("failed: claim[ridge-linear-ista] ")
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine.py", "wrong.py"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("os._exit(0)", "ended with exit code 0"),
        pytest.param("time.sleep(100)", "not finished after", marks=pytest.mark.nightly),
        pytest.param("ctypes.string_at(0)", "ended by signal 11", marks=pytest.mark.nightly),
    ],
)
def test_a_file_that_ends_or_hangs_in_estimate_has_failed(code, text, check):
    source = ESTIMATOR.replace("(depth,) =", f"{code}\n        (depth,) =")
    code, out, _ = check("mine.py", "--timeout", "20", mine=source)
    line, *_ = [line for line in out.splitlines() if text in line]
    assert code == 1 and re.search(r"^failed: \w+\[ridge-", line)


@pytest.mark.slow
def test_the_time_limit_is_that_of_one_estimate():
    with Pool(1) as pool:
        assert pool.call(2.5, planted.estimate_for_three_seconds).result == "done"
