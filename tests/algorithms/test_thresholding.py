"""Thresholding rules, restarted FISTA, warm starts, and the limit that scores rules without a minimizer."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from examples import PENALTY, arrays_of, directions, ridge_problem, sparse_problem

import pudle
from pudle import specs
from pudle.algorithms.thresholding import Decaying, Hard, Soft
from pudle.measuring.case import Case
from pudle.measuring.runner import measure
from pudle.measuring.store import Store
from pudle.problems.penalty_selection import PenaltySelection
from pudle.references import limits

#: One layer repeated in numpy sums in another order: rounding, over the layers run here.
SAME_LAYERS = 1e-12
#: Central differences with a step of 1e-5 on a smooth piece.
DIFFERENCES = 1e-6

ESTIMATORS = sorted(pudle.list_estimators())
OPTIONS = {"truncated": "truncated(window=5)", "fixed_point": "fixed_point(terms=5)", "spsa": "spsa(samples=3)"}


def refusal(call) -> str:
    """The one line that a refused call says."""
    with pytest.raises(pudle.InvalidArgument) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def relative(mine, truth) -> float:
    return float(np.linalg.norm(np.asarray(mine) - np.asarray(truth)) / np.linalg.norm(np.asarray(truth)))


def expected(rule, values: np.ndarray, level: float, iteration: int, nonnegative: bool) -> np.ndarray:
    """What each rule does, entry by entry."""

    def one(value: float) -> float:
        size = value if nonnegative else abs(value)
        if isinstance(rule, Hard):
            return value if size > (level if rule.threshold is None else rule.threshold) else 0.0
        at = level * rule.decay**iteration if isinstance(rule, Decaying) else level
        return 0.0 if size <= at else value - at if value > 0 else value + at

    return np.vectorize(one)(values)


RULES = [Soft(), Decaying(decay=0.8), Hard(), Hard(threshold=0.3)]


class TestRules:
    @pytest.mark.parametrize("rule", RULES, ids=specs.text)
    @pytest.mark.parametrize("nonnegative", [False, True])
    @pytest.mark.parametrize("iteration", [0, 3])
    def test_values(self, rule, nonnegative, iteration):
        values = np.random.default_rng(5).standard_normal((20, 30))
        # Both rules drop an entry that is exactly at the threshold.
        values[0, :4] = 0.25, -0.25, 0.3, 0.0
        mine = rule(torch.tensor(values), 0.25, iteration, nonnegative)
        assert np.abs(mine.numpy() - expected(rule, values, 0.25, iteration, nonnegative)).max() < 1e-15

    @pytest.mark.parametrize("rule", RULES, ids=specs.text)
    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_slope_is_one_on_what_is_kept_and_zero_elsewhere(self, rule, nonnegative):
        values = torch.tensor([-2.0, -0.1, 0.1, 2.0], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(rule(values, 0.25, 0, nonnegative).sum(), values)
        assert slope.tolist() == [0.0 if nonnegative else 1.0, 0.0, 0.0, 1.0]

    def test_hard_does_not_make_nan_of_infinity(self):
        assert Hard()(torch.tensor([torch.inf]), 0.2, 0, False).item() == float("inf")

    @pytest.mark.parametrize("rule", RULES, ids=specs.text)
    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_ista_runs_it_layer_by_layer(self, rule, nonnegative):
        problem = sparse_problem(nonnegative=nonnegative)
        x, d = arrays_of(problem)
        codes = np.zeros(problem.code_shape)
        for iteration in range(12):
            moved = codes - 0.2 * (codes @ d.T - x) @ d
            codes = expected(rule, moved, 0.2 * PENALTY, iteration, nonnegative)
        mine = pudle.Ista(step=0.2, thresholding=rule).run(problem, 12).codes
        assert np.abs(mine.numpy() - codes).max() < SAME_LAYERS
        assert not nonnegative or (mine >= 0).all()

    @pytest.mark.parametrize(
        "spec",
        [
            "ista(step=0.2, thresholding='decaying(decay=0.99)')",
            "ista(thresholding='hard')",
            "fista(thresholding='hard(threshold=0.1)', restart=True)",
            "fista",
        ],
    )
    def test_specs_round_trip(self, spec):
        algorithm = pudle.make_algorithm(spec)
        assert specs.text(algorithm) == spec
        assert pudle.make_algorithm(specs.text(algorithm)) == algorithm

    def test_default_rule_is_left_out_of_the_spec(self):
        assert specs.text(pudle.make_algorithm("ista(thresholding='soft')")) == "ista"

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ("ista(thresholding='sfot')", "did you mean 'soft'"),
            ("ista(thresholding=3)", "no thresholding rule"),
            ("ista(thresholding='decaying(decay=1.0)')", "use soft"),
            ("ista(thresholding='decaying(decay=-1)')", "out of range"),
            ("ista(thresholding='decaying')", "decay"),
            ("ista(thresholding='hard(threshold=0)')", "threshold=0"),
            ("fista(restart=1)", "restart=1"),
            ("ista(initial=3)", "no argument 'initial'"),
        ],
    )
    def test_refusals(self, spec, says):
        assert says in refusal(lambda: pudle.make_algorithm(spec))


class TestBias:
    """The paper's bias reductions: nearer to the generating codes than soft thresholding ever comes."""

    @staticmethod
    def bias(dataset: str, spec: str, depth: int) -> float:
        problem = pudle.make_dataset(dataset).problem()
        codes = pudle.make_algorithm(spec).run(problem, depth).codes
        return float(torch.linalg.norm(codes - problem.generating_codes, dim=1).mean())

    # As in the paper's experiments more dimensions than the five active atoms need, so that the rules find the support.
    DATASET = "sparse_gaussian(n_samples=50, n_features=200, n_components=300, perturbation=0.0025, seed={seed})"

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_decaying_and_hard_lower_it(self, seed):
        dataset = self.DATASET.format(seed=seed)
        soft = self.bias(dataset, "ista(step=0.2)", 100)
        decaying = self.bias(dataset, "ista(step=0.2, thresholding='decaying(decay=0.98)')", 100)
        hard = self.bias(dataset, "ista(step=0.2, thresholding='hard(threshold=0.1)')", 100)
        assert decaying < soft / 4
        assert hard < soft / 15

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_soft_keeps_it_however_deep(self, seed):
        dataset = self.DATASET.format(seed=seed)
        assert self.bias(dataset, "ista(step=0.2)", 400) > 0.95 * self.bias(dataset, "ista(step=0.2)", 100)

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_they_lower_it_on_the_gradient_experiment_too(self, seed):
        dataset = f"sparse_gaussian(n_samples=100, seed={seed})"
        soft = self.bias(dataset, "ista(step=0.2)", 100)
        assert self.bias(dataset, "ista(step=0.2, thresholding='decaying(decay=0.99)')", 100) < 0.85 * soft
        assert self.bias(dataset, "ista(step=0.2, thresholding='hard(threshold=0.15)')", 100) < 0.85 * soft

    def test_decay_that_outlasts_its_depth_brings_it_back(self):
        # The dictionary is not the generating one: once the penalty is gone, other atoms explain the rest.
        spec = "ista(step=0.2, thresholding='decaying(decay=0.98)')"
        dataset = "sparse_gaussian(n_samples=50, n_features=200, n_components=300, perturbation=0.01)"
        assert self.bias(dataset, spec, 400) > 2 * self.bias(dataset, spec, 100)


def restarted_codes(x: np.ndarray, d: np.ndarray, step: float, depth: int) -> tuple[np.ndarray, list[int]]:
    """Restarted FISTA on one sample, and the layers at which it restarted."""
    codes, point, a, restarts = np.zeros(d.shape[1]), np.zeros(d.shape[1]), 1.0, []
    for layer in range(depth):
        after = oracles.soft(point - step * d.T @ (d @ point - x), step * PENALTY)
        following = (1 + np.sqrt(1 + 4 * a * a)) / 2
        if (point - after).real @ (after - codes).real > 0:
            point, a = after, 1.0
            restarts.append(layer)
        else:
            point, a = after + (a - 1) / following * (after - codes), following
        codes = after
    return codes, restarts


class TestFista:
    DEPTH = 60

    def test_bare_is_bitwise_what_it_was(self):
        problem = sparse_problem()
        step = 1 / problem.lipschitz_constant
        codes = point = torch.zeros(problem.code_shape, dtype=torch.float64)
        momentum = 1.0
        for iteration in range(self.DEPTH):
            values = point - step * problem.smooth_gradient(point)
            after = problem.prox(values, step, Soft(), iteration)
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            point = torch.add(after, after - codes, alpha=(momentum - 1) / following)
            codes, momentum = after, following
        trajectory = pudle.Fista().run(problem, self.DEPTH)
        assert torch.equal(trajectory.codes, codes)
        assert trajectory.states[self.DEPTH].momentum == momentum

    def test_restart_is_per_sample(self):
        problem = sparse_problem()
        x, d = arrays_of(problem)
        step = 1 / problem.lipschitz_constant
        alone = [restarted_codes(sample, d, step, self.DEPTH) for sample in x]
        mine = pudle.Fista(restart=True).run(problem, self.DEPTH).codes.numpy()
        assert np.abs(mine - [codes for codes, _ in alone]).max() < SAME_LAYERS
        assert len({tuple(restarts) for _, restarts in alone}) > 10, "samples restart at layers of their own"

    def test_restart_reaches_the_minimizer_sooner(self):
        problem = sparse_problem()
        truth = pudle.reference(problem).codes
        errors = {
            restart: float((pudle.Fista(restart=restart).run(problem, 400).codes - truth).abs().max())
            for restart in (False, True)
        }
        assert errors[True] < 1e-12
        assert errors[False] > 1e3 * errors[True]

    def test_gradient_through_restarts(self, loss):
        problem = sparse_problem(loss)
        x, d = arrays_of(problem)
        algorithm = pudle.Fista(restart=True)
        step = algorithm.step_size(problem)

        def value(at):
            codes = np.array([restarted_codes(sample, at, step, 40)[0] for sample in x])
            return oracles.outer_loss(x, at, codes, PENALTY, loss)

        gradient = pudle.make_estimator("backprop").estimate(problem, algorithm, 40).gradient.numpy()
        for direction in directions(d.shape):
            truth = oracles.complex_step(value, d, direction)
            assert abs((gradient * direction).sum() - truth) < 1e-10 * np.linalg.norm(gradient)

    @pytest.mark.parametrize("name", ["forward", "checkpointed", "truncated(window=100)"])
    def test_unrolled_estimators_agree(self, name, loss):
        problem, algorithm = sparse_problem(loss), pudle.Fista(restart=True)
        truth = pudle.make_estimator("backprop").estimate(problem, algorithm, 40)
        mine = pudle.make_estimator(name).estimate(problem, algorithm, 40)
        assert relative(mine.gradient, truth.gradient) < 1e-12

    def test_windows_start_with_the_momentum_of_their_state(self):
        problem, algorithm = sparse_problem("reconstruction"), pudle.Fista(restart=True)
        cls = pudle.list_estimators()["truncated"]
        for window, estimate in cls.sweep_windows(problem, algorithm, 40, [1, 7, 40]):
            alone = cls(window=window).estimate(problem, algorithm, 40)
            assert relative(estimate.gradient, alone.gradient) < 1e-12

    def test_single_precision_stays_single(self):
        problem = sparse_problem(dtype=torch.float32)
        state = pudle.Fista(restart=True).run(problem, 5).states[5]
        assert state.codes.dtype == state.point.dtype == state.momentum.dtype == torch.float32


class TestWarmStart:
    @pytest.fixture
    def initial(self):
        return torch.tensor(np.random.default_rng(11).standard_normal((40, 18)))

    @pytest.mark.parametrize("name", ESTIMATORS)
    @pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista(), pudle.Fista(restart=True)], ids=specs.text)
    def test_every_estimator_starts_from_it(self, name, algorithm, initial):
        problem = sparse_problem()
        warm = dataclasses.replace(algorithm, initial=initial)
        estimator = pudle.make_estimator(OPTIONS.get(name, name))
        for depth in (0, 3):
            try:
                codes = estimator.estimate(problem, warm, depth).codes
            except pudle.UnsupportedProblem as refused:
                pytest.skip(str(refused))
            assert float((codes - algorithm.run(problem, depth, initial=initial).codes).abs().max()) < SAME_LAYERS
        assert float((codes - algorithm.run(problem, 3).codes).abs().max()) > 0.1

    def test_gradient_holds_it_constant(self, loss, initial):
        problem = sparse_problem(loss)
        x, d = arrays_of(problem)
        warm = pudle.Ista(initial=initial)
        step, start = warm.step_size(problem), (initial.numpy(), initial.numpy(), 1.0)

        def value(at):
            codes, _, _ = oracles.unroll(x, at, PENALTY, step, 8, state=start)
            return oracles.outer_loss(x, at, codes, PENALTY, loss)

        for name in ("backprop", "forward", "checkpointed", "truncated(window=8)"):
            gradient = pudle.make_estimator(name).estimate(problem, warm, 8).gradient.numpy()
            for direction in directions(d.shape):
                truth = oracles.complex_step(value, d, direction)
                assert abs((gradient * direction).sum() - truth) < 1e-10 * np.linalg.norm(gradient)

    def test_minimizer_stays_where_it_is(self):
        problem = sparse_problem()
        truth = pudle.reference(problem)
        warm = pudle.Ista(initial=truth.codes)
        assert float((warm.run(problem, 50).codes - truth.codes).abs().max()) < 1e-13
        estimate = pudle.make_estimator("alternating").estimate(problem, warm, 1)
        assert relative(estimate.gradient, truth.gradient) < 1e-12

    def test_argument_of_run_goes_first(self, initial):
        problem = sparse_problem()
        codes = pudle.Ista(initial=initial).run(problem, 0, initial=2 * initial).codes
        assert torch.equal(codes, 2 * initial)

    def test_graph_of_the_codes_given_is_cut(self, initial):
        live = initial.requires_grad_()
        assert not pudle.Ista(initial=live).run(sparse_problem(), 2).codes.requires_grad

    def test_spec_and_comparison_leave_it_out(self, initial):
        warm = pudle.Ista(step=0.2, initial=initial)
        assert specs.text(warm) == "ista(step=0.2)"
        assert warm == pudle.Ista(step=0.2)
        assert hash(warm) == hash(pudle.Ista(step=0.2))

    def test_refusals(self, initial):
        problem = sparse_problem()
        assert "initial has shape (3, 18)" in refusal(lambda: pudle.Ista(initial=initial[:3]).run(problem, 1))
        assert "differ in dtype" in refusal(lambda: pudle.Ista(initial=initial.float()).run(problem, 1))


def least_squares_loss(x: np.ndarray, d: np.ndarray, signs: np.ndarray, loss: str) -> complex:
    """Loss at the least-squares codes on given supports; analytic in the dictionary."""
    codes = np.zeros(signs.shape, dtype=d.dtype)
    for i, sign in enumerate(signs):
        atoms = d[:, sign != 0]
        codes[i, sign != 0] = np.linalg.solve(atoms.T @ atoms, atoms.T @ x[i])
    return oracles.outer_loss(x, d, codes, PENALTY, loss)


class TestLimit:
    @pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista(), pudle.Fista(restart=True)], ids=specs.text)
    def test_of_soft_thresholding_is_the_minimizer(self, algorithm, loss):
        problem = sparse_problem(loss)
        truth = pudle.reference(problem)
        limit = pudle.reference(problem, "limit", algorithm)
        assert (limit.status, limit.target) == ("limit", "limit")
        assert relative(limit.gradient, truth.gradient) < limit.bound < tolerances.USEFUL_BOUND
        assert float((limit.codes - truth.codes).abs().max()) < 1e-12

    def test_of_ridge_is_its_closed_form(self):
        problem = ridge_problem()
        limit, truth = pudle.reference(problem, "limit", pudle.Ista()), pudle.reference(problem)
        assert relative(limit.gradient, truth.gradient) < limit.bound < tolerances.USEFUL_BOUND

    @pytest.mark.parametrize(
        ("shape", "spec"),
        [
            ({"m": 12, "p": 18}, "ista(thresholding='hard(threshold=0.2)')"),
            ({"m": 20, "p": 12}, "ista(thresholding='hard(threshold=0.1)')"),
            ({"m": 20, "p": 12}, "fista(thresholding='hard(threshold=0.1)')"),
            ({"m": 20, "p": 12}, "ista(thresholding='decaying(decay=0.99)')"),
            ({"m": 20, "p": 12}, "fista(thresholding='decaying(decay=0.9)', restart=True)"),
        ],
    )
    def test_of_the_others_is_least_squares_on_the_support(self, shape, spec, loss):
        problem = sparse_problem(loss, **shape)
        x, d = arrays_of(problem)
        limit = pudle.reference(problem, "limit", pudle.make_algorithm(spec))
        assert limit.status == "limit", limit.reason
        signs = np.sign(limit.codes.numpy())
        truth = np.zeros_like(d)
        for index in np.ndindex(d.shape):
            direction = np.zeros_like(d)
            direction[index] = 1
            truth[index] = oracles.complex_step(lambda at: least_squares_loss(x, at, signs, loss), d, direction)
        assert relative(limit.gradient, truth) < max(limit.bound, 1e-12) < tolerances.USEFUL_BOUND

    @pytest.mark.parametrize(
        "spec", ["ista(thresholding='hard(threshold=0.1)')", "ista(thresholding='decaying(decay=0.95)')"]
    )
    def test_it_is_what_central_differences_of_the_converged_map_say(self, spec, loss):
        problem = sparse_problem(loss, m=20, p=12, n=20)
        limit = pudle.reference(problem, "limit", pudle.make_algorithm(spec))
        algorithm = dataclasses.replace(pudle.make_algorithm(spec), step=1 / problem.lipschitz_constant)

        def value(at):
            moved = problem.with_theta(torch.tensor(at))
            return float(moved.outer_loss(algorithm.run(moved, limit.certificate.iterations).codes))

        gradient, d = limit.gradient.numpy(), problem.dictionary.numpy()
        for direction in directions(d.shape, 2):
            difference = oracles.central_difference(value, d, direction)
            assert abs((gradient * direction).sum() - difference) < DIFFERENCES * np.linalg.norm(gradient)

    @pytest.mark.parametrize(
        "spec", ["ista(thresholding='hard(threshold=0.1)')", "ista(thresholding='decaying(decay=0.95)')"]
    )
    def test_unrolled_gradient_tends_to_it_and_is_scored(self, spec):
        problem, algorithm = sparse_problem(m=20, p=12), pudle.make_algorithm(spec)
        limit = pudle.reference(problem, "limit", algorithm)
        backprop = pudle.make_estimator("backprop")
        depths = (20, limit.certificate.iterations)
        shallow, deep = (pudle.score(backprop.estimate(problem, algorithm, depth), limit) for depth in depths)
        assert shallow.status == deep.status == "ok"
        assert shallow.relative_error > 1e-2
        assert limit.bound <= deep.relative_error < 1e-8

    def test_warm_start_counts(self):
        problem = sparse_problem(m=20, p=12)
        algorithm = pudle.make_algorithm("ista(thresholding='hard(threshold=0.1)')")
        cold = pudle.reference(problem, "limit", algorithm)
        warm = pudle.reference(problem, "limit", dataclasses.replace(algorithm, initial=cold.codes))
        assert warm.certificate.iterations < 20 < cold.certificate.iterations
        assert relative(warm.gradient, cold.gradient) < 1e-10

    def test_faded_penalty_with_too_many_atoms_has_none(self):
        algorithm = pudle.make_algorithm("ista(thresholding='decaying(decay=0.9)')")
        limit = pudle.reference(sparse_problem(), "limit", algorithm)
        assert limit.status == "uncertified"
        assert "40 have a singular active system" in limit.reason
        estimate = pudle.make_estimator("backprop").estimate(sparse_problem(), algorithm, 5)
        assert pudle.score(estimate, limit).status == "uncertified"

    def test_what_still_moves_is_not_scored(self, monkeypatch):
        monkeypatch.setattr(limits, "MAX_LAYERS", 30)
        limit = pudle.reference(sparse_problem(), "limit", pudle.Ista())
        assert limit.status == "uncertified"
        assert "40 still moved after 30 layers" in limit.reason

    def test_zero_gradient_is_degenerate(self):
        limit = pudle.reference(sparse_problem(penalty=100.0), "limit", pudle.Ista())
        assert limit.status == "degenerate"

    def test_gradient_that_fades_with_the_penalty_is_degenerate(self):
        # The limit does not depend on the penalty; what the layers leave of it must not pass for a gradient.
        random = np.random.default_rng(3)
        arrays = {
            "observations": random.standard_normal((5, 20)),
            "design": random.standard_normal((20, 6)),
            "held_out_observations": random.standard_normal((5, 15)),
            "held_out_design": random.standard_normal((15, 6)),
            "log_penalty": np.array(-1.0),
        }
        problem = PenaltySelection(**{name: torch.tensor(array) for name, array in arrays.items()})
        for rule in ("decaying(decay=0.9)", "hard(threshold=0.01)"):
            assert pudle.reference(problem, "limit", pudle.Ista(thresholding=rule)).status == "degenerate"

    def test_it_needs_the_algorithm(self):
        assert "pass it" in refusal(lambda: pudle.reference(sparse_problem(), "limit"))


HARD = "ista(step=0.2, thresholding='hard(threshold=0.15)')"


def hard_case(**changes) -> Case:
    options = {
        "dataset": "sparse_gaussian(n_samples=20)",
        "algorithm": HARD,
        "loss": "lasso",
        "seeds": (0,),
        "depths": (5, 300),
    }
    return Case(name="hard", **options | {"targets": ("gstar", "gtilde", "limit")} | changes)


class TestCases:
    @pytest.mark.parametrize("rule", ["hard", "decaying(decay=0.99)"])
    @pytest.mark.parametrize("target", ["exact", "ghat"])
    def test_no_minimizer_no_target_that_rests_on_it(self, rule, target):
        text = refusal(lambda: hard_case(algorithm=f"ista(thresholding={rule!r})", targets=("gtilde", target)))
        assert text.startswith("case hard: ")
        assert rule.partition("(")[0] in text
        assert f"{target} rests on: use the targets gstar, gtilde or limit" in text

    def test_measured_against_every_other_target(self, tmp_path):
        store = Store(tmp_path, "test")
        record = measure(hard_case(), "backprop", store)
        assert record["status"] == "ok", record["reason"]
        deep = {row["target"]: row["relative_error"] for row in record["scores"] if row["depth"] == 300}
        assert deep["limit"] < 1e-3 < deep["gtilde"]
        labels = {description["target"]: description["status"] for description in record["references"]}
        assert labels == {"gstar": "certified", "gtilde": "certified", "limit": "limit"}
        again = store.read_reference(hard_case(), 0, "limit")
        assert again is not None
        assert again.status == "limit"

    def test_only_a_limit_is_kept_per_algorithm(self, tmp_path):
        store = Store(tmp_path, "test")
        one, other = hard_case(), hard_case(algorithm="ista(step=0.2, thresholding='hard(threshold=0.1)')")
        assert store.reference_path(one, 0, "gtilde") == store.reference_path(other, 0, "gtilde")
        assert store.reference_path(one, 0, "limit") != store.reference_path(other, 0, "limit")
