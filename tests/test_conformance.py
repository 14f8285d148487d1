"""The contract that every registered estimator inherits, whoever wrote it: nothing here names one, but for its options."""

from __future__ import annotations

import contextlib
import dataclasses
import random

import numpy as np
import oracles
import pytest
import tolerances
import torch
from examples import PENALTY, arrays_of, directions, ridge_problem, sparse_problem

import pudle
from pudle import specs
from pudle.estimator import CLAIMS

#: Options for estimators that need some; all others are made by their bare name.
EXAMPLE_SPECS = {
    "truncated": "truncated(window=5)",
    "fixed_point": "fixed_point(terms=20)",
}
#: Options for estimators that reach what they claim in the limit of an option.
LIMIT_SPECS = EXAMPLE_SPECS | {
    "fixed_point": "fixed_point(terms=1000)",
    "conjugate_gradient": "conjugate_gradient(iterations=100, rtol=1e-15)",
}
#: Estimators that are difference quotients, and can be no better than one.
DIFFERENCE_QUOTIENTS = {"finite_difference", "spsa"}

NAMES = sorted(pudle.list_estimators())
IMPLICIT = [name for name in NAMES if pudle.list_estimators()[name].computes == "implicit"]
DEPTH = 12
ALGORITHMS = {"ista": pudle.Ista(), "fista": pudle.Fista()}


def relative(mine, truth) -> float:
    """Distance over the truth's norm; plain distance where the truth is zero."""
    mine, truth = np.asarray(mine), np.asarray(truth)
    size = np.linalg.norm(truth)
    return float(np.linalg.norm(mine - truth) / (size if size else 1))


def estimate(estimator, problem, algorithm, depth) -> pudle.Estimate:
    """Estimate, or skip where the estimator refuses this kind of problem in the way it should."""
    try:
        return estimator.estimate(problem, algorithm, depth)
    except pudle.UnsupportedProblem as refusal:
        check_refusal(refusal)
        pytest.skip(str(refusal))


def check_refusal(refusal: pudle.UnsupportedProblem) -> None:
    text = str(refusal)
    assert len(text.splitlines()) == 1, "a refusal is one line"
    assert len(text.split()) >= 5, "a refusal says what is missing and what to use instead"


def tensors_of(problem) -> dict[str, torch.Tensor]:
    values = {field.name: getattr(problem, field.name) for field in dataclasses.fields(problem)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


@pytest.fixture(params=NAMES)
def estimator(request) -> pudle.GradientEstimator:
    return pudle.make_estimator(EXAMPLE_SPECS.get(request.param, request.param))


@pytest.fixture(params=NAMES)
def estimator_at_its_limit(request) -> pudle.GradientEstimator:
    return pudle.make_estimator(LIMIT_SPECS.get(request.param, request.param))


@pytest.fixture(params=sorted(ALGORITHMS))
def algorithm(request) -> pudle.Algorithm:
    return ALGORITHMS[request.param]


def test_some_estimators_are_registered():
    assert {"alternating", "analytic", "backprop", "truncated"} <= set(NAMES)


def test_aliases_name_one_estimator_each():
    claimed = [alias for cls in pudle.list_estimators().values() for alias in (*cls.aliases, cls.name)]
    assert len(claimed) == len(set(claimed))


class TestConformance:
    """What an estimator must do on every problem it accepts."""

    # --- what it says about itself

    def test_describes_itself(self, estimator):
        cls = type(estimator)
        assert pudle.list_estimators()[cls.name] is cls
        assert cls.computes in CLAIMS
        assert cls.references and all(isinstance(text, str) and text for text in cls.references)
        assert isinstance(cls.aliases, tuple)
        assert cls.consistent_for is None or set(cls.consistent_for) <= {"lasso", "reconstruction"}
        assert (cls.__doc__ or "").strip()

    def test_is_a_frozen_dataclass(self, estimator):
        assert issubclass(type(estimator), pudle.GradientEstimator)
        assert dataclasses.is_dataclass(estimator)
        with pytest.raises(dataclasses.FrozenInstanceError):
            estimator.anything = 1

    def test_aliases_resolve(self, estimator):
        arguments = specs.text(estimator).removeprefix(estimator.name)
        for alias in estimator.aliases:
            assert pudle.make_estimator(alias + arguments) == estimator

    def test_spec_round_trip(self, estimator):
        assert pudle.make_estimator(specs.text(estimator)) == estimator

    def test_treats_some_problem(self, estimator):
        """Refusing everything would pass every other test by skipping it; a built-in one treats the home problem."""
        problems = [sparse_problem()]
        if not type(estimator).__module__.startswith("pudle.estimators."):
            problems.append(ridge_problem())
        accepted = 0
        for problem in problems:
            with contextlib.suppress(pudle.UnsupportedProblem):
                accepted += estimator.estimate(problem, pudle.Ista(), 2).gradient.shape == problem.theta.shape
        assert accepted

    # --- what it returns

    @pytest.mark.parametrize("make", [sparse_problem, ridge_problem], ids=["sparse", "ridge"])
    def test_shape_dtype_device_and_graph(self, estimator, algorithm, make, dtype, device):
        problem = make(dtype=dtype, device=device)
        problem.theta.requires_grad_()
        result = estimate(estimator, problem, algorithm, 3)
        assert result.gradient.shape == problem.theta.shape
        assert result.codes.shape == problem.code_shape
        for tensor in (result.gradient, result.codes):
            assert tensor.dtype == dtype
            assert tensor.device == problem.theta.device
            assert not tensor.requires_grad and tensor.grad_fn is None
            assert torch.isfinite(tensor).all()
        assert result.gradient.data_ptr() != problem.theta.data_ptr()

    def test_codes_are_those_of_the_algorithm(self, estimator, algorithm, problem):
        x, d = arrays_of(problem)
        step = 1 / oracles.largest_curvature(d)
        codes, _, _ = oracles.unroll(x, d, PENALTY, step, DEPTH, accelerated=algorithm.name == "fista")
        result = estimate(estimator, problem, algorithm, DEPTH)
        assert relative(result.codes, codes) < tolerances.SAME_ARITHMETIC

    def test_float32_agrees_with_float64(self, estimator, algorithm, loss):
        # Deep enough for well-conditioned supports: before that, analytic solves lose digits to conditioning alone.
        single = estimate(estimator, sparse_problem(loss, torch.float32), algorithm, 60)
        double = estimate(estimator, sparse_problem(loss), algorithm, 60)
        quotient = estimator.name in DIFFERENCE_QUOTIENTS
        tolerance = tolerances.SINGLE_PRECISION_QUOTIENT if quotient else tolerances.SINGLE_PRECISION
        assert relative(single.gradient.double(), double.gradient) < tolerance
        assert relative(single.codes.double(), double.codes) < tolerances.SINGLE_PRECISION

    # --- what it leaves alone

    @pytest.mark.parametrize("requires_grad", [False, True])
    @pytest.mark.parametrize("make", [sparse_problem, ridge_problem], ids=["sparse", "ridge"])
    def test_does_not_touch_the_problem(self, estimator, make, requires_grad):
        problem = make()
        problem.theta.requires_grad_(requires_grad)
        before = {name: (tensor, tensor.detach().clone(), tensor._version) for name, tensor in tensors_of(problem).items()}
        estimate(estimator, problem, pudle.Ista(), 4)
        after = tensors_of(problem)
        assert after.keys() == before.keys()
        for name, (tensor, copy, version) in before.items():
            assert after[name] is tensor and torch.equal(tensor.detach(), copy)
            assert tensor._version == version, f"{name} was written to"
            assert tensor.grad is None and tensor.grad_fn is None
        assert problem.theta.requires_grad is requires_grad

    def test_deterministic_to_the_bit(self, estimator, algorithm, problem):
        first = estimate(estimator, problem, algorithm, DEPTH)
        again = pudle.make_estimator(specs.text(estimator)).estimate(sparse_problem(problem.loss), algorithm, DEPTH)
        assert torch.equal(first.gradient, again.gradient)
        assert torch.equal(first.codes, again.codes)

    def test_neither_reads_nor_changes_global_random_state(self, estimator, problem):
        results, untouched = [], (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002
        try:
            for seed in (1, 2):
                torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
                np.random.seed(seed)  # noqa: NPY002
                random.seed(seed)
                before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
                results.append(estimate(estimator, problem, pudle.Ista(), 4).gradient)
                assert torch.equal(torch.get_rng_state(), before[0])
                assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
                assert random.getstate() == before[2]
        finally:
            torch.set_rng_state(untouched[0])
            np.random.set_state(untouched[1])  # noqa: NPY002
            random.setstate(untouched[2])
        assert torch.equal(*results)

    def test_grad_mode_and_defaults(self, estimator, problem):
        expected = estimate(estimator, problem, pudle.Ista(), 4)
        threads, default = torch.get_num_threads(), torch.get_default_dtype()
        assert torch.is_grad_enabled()
        with torch.no_grad():
            result = estimator.estimate(problem, pudle.Ista(), 4)
            assert not torch.is_grad_enabled()
            swept = []
            for one in estimator.sweep(problem, pudle.Ista(), [2, 4]):
                # A generator that pauses inside a context would leave its grad mode with the caller.
                assert not torch.is_grad_enabled()
                swept.append(one.gradient)
        assert torch.equal(result.gradient, expected.gradient)
        assert relative(swept[-1], expected.gradient) < tolerances.SAME_ARITHMETIC
        for _ in estimator.sweep(problem, pudle.Ista(), [2, 4]):
            assert torch.is_grad_enabled()
        assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, default)

    # --- depths

    @pytest.mark.parametrize("depths", [[1, 5, DEPTH], [DEPTH, 0, 5, 5, 1], [3], []], ids=str)
    def test_sweep_agrees_with_estimate(self, estimator, algorithm, problem, depths):
        alone = [estimate(estimator, problem, algorithm, depth) for depth in depths]
        swept = list(estimator.sweep(problem, algorithm, depths))
        assert len(swept) == len(alone)
        for one, other in zip(alone, swept, strict=True):
            assert relative(other.gradient, one.gradient) < tolerances.SAME_ARITHMETIC
            assert relative(other.codes, one.codes) < tolerances.SAME_ARITHMETIC
            assert not other.gradient.requires_grad and not other.codes.requires_grad

    def test_depth_zero(self, estimator, algorithm, loss):
        """With no layer the codes are zero whatever theta is, and so is the gradient."""
        for problem in (sparse_problem(loss), ridge_problem()):
            try:
                result = estimator.estimate(problem, algorithm, 0)
            except pudle.UnsupportedProblem as refusal:
                check_refusal(refusal)
                continue
            assert not result.codes.any()
            assert not result.gradient.any()

    @pytest.mark.parametrize("depth", [-1, -20, 2.5], ids=str)
    def test_impossible_depth_is_refused(self, estimator, problem, depth):
        with pytest.raises(pudle.InvalidArgument, match="depth") as failure:
            estimator.estimate(problem, pudle.Ista(), depth)
        assert len(str(failure.value).splitlines()) == 1
        with pytest.raises(pudle.InvalidArgument, match="depth"):
            list(estimator.sweep(problem, pudle.Ista(), [2, depth]))

    def test_divergent_step_is_refused(self, estimator, problem):
        with pytest.raises(pudle.InvalidArgument, match="above 2/L"):
            estimator.estimate(problem, pudle.Ista(step=2.1 / problem.curvature), 3)

    # --- nothing silent

    def test_overflow_is_not_silent(self, estimator, problem):
        """Observations so large that the gradient exceeds float64: infinite or NaN and scored so, or refused."""
        huge = dataclasses.replace(problem, observations=problem.observations * 1e200)
        reference = pudle.reference(problem)
        try:
            result = estimator.estimate(huge, pudle.Ista(), DEPTH)
        except pudle.PudleError as refusal:
            assert len(str(refusal).splitlines()) == 1
            return
        score = pudle.score(result, reference)
        assert score.status == "diverged"
        assert "NaN or infinite" in score.reason

    def test_empty_supports_give_zero(self, estimator, algorithm, loss):
        """A penalty that leaves every code zero: no division by an empty system's size or norm."""
        result = estimate(estimator, sparse_problem(loss, penalty=1e3), algorithm, DEPTH)
        assert not result.codes.any()
        assert not result.gradient.any()

    def test_more_active_atoms_than_dimensions(self, estimator, loss):
        """At depth 1 and a small penalty every atom is active, and the active Gram matrix singular."""
        result = estimate(estimator, sparse_problem(loss, penalty=1e-4), pudle.Ista(), 1)
        assert int((result.codes != 0).sum(1).max()) > 12
        assert torch.isfinite(result.gradient).all()
        if result.diagnostics.get("solves"):
            # Whoever solves the singular systems says so: by the condition number, or by how far the solve came.
            told = {"condition_number", "largest_relative_residual"} & result.diagnostics.keys()
            assert told, "an estimator that solves systems reports how singular they are"

    # --- its claim, against truth it had no part in

    @pytest.mark.parametrize("estimator", [name for name in NAMES if name not in IMPLICIT], indirect=True)
    def test_claim_at_finite_depth(self, estimator, algorithm, problem):
        """`direct`, `unrolled` and `truncated` are claims about z_T at any T."""
        x, d = arrays_of(problem)
        accelerated = algorithm.name == "fista"
        # The step is a constant of the program: it stays put while the dictionary is differentiated.
        step = 1 / oracles.largest_curvature(d)
        result = estimate(estimator, problem, algorithm, DEPTH)
        gradient, codes = result.gradient.numpy(), result.codes.numpy()

        if estimator.computes == "direct":
            truth = -(x - codes @ d.T).T @ codes / len(x)
            assert relative(gradient, truth) < tolerances.CLOSED_FORM
            return
        if estimator.computes == "stochastic":
            pytest.skip("a random vector is checked by its mean, in the estimator's own tests")

        window = DEPTH
        if estimator.computes == "truncated":
            window = result.diagnostics["layers_differentiated"]
            assert 1 <= window < DEPTH
            # An estimator with a window of its own is held to that, not to what it says it did.
            assert window == getattr(estimator, "window", window)

        def value(at):
            return oracles.unrolled_loss(
                x, at, PENALTY, problem.loss, step, DEPTH, accelerated=accelerated, window=window, frozen=d
            )

        size = np.linalg.norm(gradient)
        for direction in directions(d.shape):
            mine = float((gradient * direction).sum())
            difference = oracles.central_difference(value, d, direction).real
            sharp = oracles.complex_step(value, d, direction)
            assert abs(difference - sharp) < tolerances.CENTRAL_DIFFERENCES * size, "the two truths disagree"
            quotient = estimator.name in DIFFERENCE_QUOTIENTS
            assert abs(mine - difference) < (
                tolerances.DIFFERENCE_QUOTIENT if quotient else tolerances.CENTRAL_DIFFERENCES
            ) * size  # fmt: skip
            if not quotient:
                assert abs(mine - sharp) < tolerances.COMPLEX_STEP * size

    @pytest.mark.parametrize("estimator_at_its_limit", IMPLICIT, indirect=True)
    def test_implicit_claim_at_converged_codes(self, estimator_at_its_limit, problem):
        """At the minimiser the implicit function theorem gives the gradient of the exact minimiser's loss."""
        estimator = estimator_at_its_limit
        x, d = arrays_of(problem)
        result = estimate(estimator, problem, pudle.Ista(), 3000)
        exact = oracles.exact_codes(x, d, PENALTY)
        assert np.abs(result.codes.numpy() - exact).max() < tolerances.CONVERGED
        signs = np.sign(exact).astype(float)
        gradient = result.gradient.numpy()
        for direction in directions(d.shape):
            truth = oracles.central_difference(
                lambda at: oracles.exact_loss(x, at, PENALTY, problem.loss, signs), d, direction
            )
            mine = float((gradient * direction).sum())
            assert abs(mine - float(truth)) < tolerances.CENTRAL_DIFFERENCES * np.linalg.norm(gradient)

    @pytest.mark.parametrize("depth", [1, 2, 7, 60])
    @pytest.mark.parametrize("fraction", [0.4, 1.0, 1.7], ids="step={}/L".format)
    def test_claim_on_ridge(self, estimator_at_its_limit, ridge, depth, fraction):
        """Ridge regression has a closed form at every depth and for every claim."""
        estimator = estimator_at_its_limit
        x, d, c = (tensor.numpy() for tensor in (ridge.observations, ridge.dictionary, ridge.weights))
        step = fraction / (oracles.largest_curvature(d) + ridge.strength)
        oracle = oracles.RidgeOracle(x, d, ridge.strength, c, step)
        if estimator.computes == "stochastic":
            pytest.skip("a random vector is checked by its mean, in the estimator's own tests")
        result = estimate(estimator, ridge, pudle.Ista(step=step), depth)
        assert relative(result.codes, oracle.codes(depth)) < tolerances.CLOSED_FORM
        truth = {
            "direct": lambda: 0.0,
            "unrolled": lambda: oracle.unrolled(depth),
            "truncated": lambda: oracle.truncated(depth, result.diagnostics["layers_differentiated"]),
            "implicit": lambda: oracle.implicit(depth),
        }[estimator.computes]()
        quotient = estimator.name in DIFFERENCE_QUOTIENTS
        tolerance = tolerances.DIFFERENCE_QUOTIENT if quotient else tolerances.CLOSED_FORM
        assert abs(float(result.gradient) - truth) < tolerance * abs(oracle.exact())
