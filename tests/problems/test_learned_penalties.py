"""One penalty per filter, learned with the filters: gradients against autograd on plain
convolutions and differences.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import relative
from convolutions import convolutional, dense, filter_entries
from torch.nn.functional import conv2d, conv_transpose2d

import pudle

PENALTIES = torch.tensor([0.1, 0.2, 0.15], dtype=torch.float64)
ROUTES = ["backprop", "checkpointed", "forward", "truncated(window=7)", "finite_difference"]


def thresholded(
    loss: str = "reconstruction", **fields
) -> pudle.ThresholdedConvolutionalSparseCoding:
    plain = convolutional(loss, **fields)
    noise = torch.as_tensor(np.random.default_rng(11).standard_normal(plain.observations.shape))
    kept = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    kept |= {"penalty": PENALTIES, "targets": plain.observations + 0.3 * noise}
    return pudle.ThresholdedConvolutionalSparseCoding(**kept)


def written_out(problem, filters, log_penalties, step: float, depth: int) -> torch.Tensor:
    """The loss after layers of torch's own convolutions, as a function of filters and penalties."""
    padding, extra = problem.geometry.padding, problem.geometry.extra
    penalties = log_penalties.exp()[:, None, None]
    codes = torch.zeros(problem.code_shape, dtype=filters.dtype)
    for _ in range(depth):
        images = conv_transpose2d(
            codes, filters, stride=problem.stride, padding=padding, output_padding=extra
        )
        slope = conv2d(
            images - problem.observations, filters, stride=problem.stride, padding=padding
        )
        values = codes - step * slope
        positive = torch.relu(values - step * penalties)
        codes = (
            positive if problem.nonnegative else positive - torch.relu(-values - step * penalties)
        )
    images = conv_transpose2d(
        codes, filters, stride=problem.stride, padding=padding, output_padding=extra
    )
    total = (images - problem.targets).square().sum() / 2
    if problem.loss == "lasso":
        total = total + (penalties * codes.abs()).sum()
    return total / len(codes)


class TestGradient:
    @pytest.mark.parametrize("nonnegative", [False, True])
    @pytest.mark.parametrize("spec", ROUTES)
    def test_against_autograd_written_out(self, loss, spec, nonnegative):
        problem = thresholded(loss, nonnegative=nonnegative)
        step = 1 / problem.lipschitz_constant
        filters, logs = (
            problem.dictionary.clone().requires_grad_(),
            PENALTIES.log().requires_grad_(),
        )
        parts = torch.autograd.grad(written_out(problem, filters, logs, step, 7), (filters, logs))
        truth = torch.cat([parts[0].flatten(1), parts[1][:, None]], 1)
        assert (parts[1] != 0).all()
        gradient = pudle.make_estimator(spec).estimate(problem, pudle.Ista(step=step), 7).gradient
        assert gradient.shape == problem.theta.shape == (3, 2 * 3 * 4 + 1)
        quotient = spec == "finite_difference"
        assert (
            relative(gradient, truth) <= tolerances.DIFFERENCE_QUOTIENT
            if quotient
            else tolerances.CLOSED_FORM
        )

    def test_against_central_differences_on_the_matrix(self, loss):
        problem = thresholded(loss)
        entries = filter_entries(
            tuple(problem.observations.shape[1:]), tuple(problem.dictionary.shape), problem.stride
        )
        x, y = problem.observations.flatten(1).numpy(), problem.targets.flatten(1).numpy()
        step, theta = 1 / problem.lipschitz_constant, problem.theta.numpy()
        positions = problem.code_shape[2] * problem.code_shape[3]

        def value(at: np.ndarray) -> float:
            matrix, weights = dense(at[:, :-1], entries), np.exp(at[:, -1]).repeat(positions)
            codes = oracles.unroll(x, matrix, weights, step, 6)[0]
            total = (
                np.square(codes @ matrix.T - y).sum() / 2
                + (loss == "lasso") * (weights * np.abs(codes)).sum()
            )
            return float(total) / len(codes)

        gradient = (
            pudle.make_estimator("backprop")
            .estimate(problem, pudle.Ista(step=step), 6)
            .gradient.numpy()
        )
        for axis in (slice(None, -1), slice(-1, None)):
            direction = np.zeros(theta.shape)
            direction[:, axis] = np.random.default_rng(4).standard_normal(theta.shape)[:, axis]
            h = 1e-5
            truth = (value(theta + h * direction) - value(theta - h * direction)) / (2 * h)
            size = np.linalg.norm(gradient) * np.linalg.norm(direction)
            assert abs((gradient * direction).sum() - truth) < tolerances.CENTRAL_DIFFERENCES * size

    def test_implicit_gradients_are_those_of_many_layers(self, loss):
        problem, algorithm = thresholded(loss), pudle.Fista(restart=True)
        truth = pudle.make_estimator("backprop").estimate(problem, algorithm, 150).gradient
        for spec in (
            "analytic",
            "conjugate_gradient(iterations=300, rtol=1e-15)",
            "fixed_point(terms=1500)",
        ):
            mine = pudle.make_estimator(spec).estimate(problem, algorithm, 150).gradient
            assert relative(mine, truth) <= tolerances.CONVERGED, spec
        assert (
            relative(pudle.reference(problem, "limit", algorithm).gradient, truth)
            <= tolerances.CONVERGED
        )

    def test_equal_penalties_are_one_penalty(self, loss):
        plain = convolutional(loss)
        kept = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
        problem = pudle.ThresholdedConvolutionalSparseCoding(**kept)
        truth = pudle.make_estimator("backprop").estimate(plain, pudle.Ista(), 9)
        mine = pudle.make_estimator("backprop").estimate(problem, pudle.Ista(), 9)
        assert relative(mine.codes, truth.codes) <= tolerances.SAME_ARITHMETIC
        assert (
            relative(problem.dictionary_of(mine.gradient), truth.gradient)
            <= tolerances.SAME_ARITHMETIC
        )

    def test_constant_codes_never_move_a_penalty_of_the_reconstruction_loss(self):
        gradient = (
            pudle.make_estimator("alternating").estimate(thresholded(), pudle.Ista(), 9).gradient
        )
        assert not gradient[:, -1].any() and gradient[:, :-1].any()


class TestLearner:
    def test_a_step_renormalizes_the_filters_alone(self):
        problem = thresholded()
        estimate = pudle.make_estimator("backprop").estimate(problem, pudle.Ista(step=0.05), 10)
        after = problem.theta - 0.05 * estimate.gradient
        after[:, :-1] /= after[:, :-1].norm(dim=1, keepdim=True)
        training = pudle.Learner(
            "backprop", "ista(step=0.05)", 10, "sgd(learning_rate=0.05)", epochs=1
        ).fit(problem)
        assert torch.allclose(training.theta, after, rtol=0, atol=1e-12)
        assert torch.equal(training.dictionary.flatten(1), training.theta[:, :-1])

    @pytest.mark.parametrize("optimizer", ["adam(learning_rate=0.02)", "lbfgs"])
    def test_learning_lowers_the_loss_and_moves_the_penalties(self, optimizer):
        problem = thresholded()
        training = pudle.Learner("backprop", "ista(step=0.05)", 15, optimizer, epochs=20).fit(
            problem
        )
        learned = dataclasses.replace(problem, **problem.fields_at(training.theta))
        before, after = (
            float(one.outer_loss(pudle.Ista(step=0.05).run(one, 15).codes))
            for one in (problem, learned)
        )
        # The loss stays above the noise of the targets.
        assert after < 0.99 * before
        assert ((learned.penalty.flatten() - PENALTIES).abs() > 1e-3).all()
        assert torch.allclose(
            learned.dictionary.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64)
        )

    def test_resume_is_exact(self, tmp_path):
        problem = thresholded(n=4)

        def learner(epochs: int) -> pudle.Learner:
            return pudle.Learner(
                "backprop", "ista(step=0.05)", 8, "adam(learning_rate=0.02)", epochs=epochs, batch=3
            )

        whole = learner(6).fit(problem)
        learner(2).fit(problem, folder=tmp_path)
        resumed = learner(6).fit(problem, folder=tmp_path, resume=True)
        assert torch.equal(resumed.theta, whole.theta)

    def test_the_monitor_sees_filters_and_penalties(self):
        problem = thresholded()
        seen = []
        learner = pudle.Learner(
            "backprop", "ista(step=0.05)", 8, "adam(learning_rate=0.02)", epochs=2
        )
        learner.fit(problem, monitor=lambda theta: seen.append(theta.clone()) or {})
        assert torch.allclose(problem.fields_at(seen[0])["penalty"].flatten(), PENALTIES)
        assert (seen[-1][:, -1] != seen[0][:, -1]).all()


def test_refusals():
    problem = thresholded()
    for wrong, text in (
        (PENALTIES[:2], "penalty has 2 entries, .* or 3, one for each filter"),
        (-PENALTIES, "the smallest -0.2"),
        (0.0, "penalty=0"),
        (PENALTIES.float(), "penalty"),
        (PENALTIES * float("nan"), "penalty"),
    ):
        with pytest.raises(pudle.InvalidArgument, match=text):
            dataclasses.replace(problem, penalty=wrong)
    with pytest.raises(pudle.UnsupportedProblem, match="use target='limit'"):
        pudle.reference(problem, "exact")
