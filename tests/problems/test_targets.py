"""Outer losses that compare with targets, such as clean images, instead of the observations."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from convolutions import chain, convolutional, dense, dense_twin

import pudle

Array = np.ndarray

#: Specs of the estimators that converge to the exact gradient with depth.
CONSISTENT = {
    "analytic": "analytic",
    "backprop": "backprop",
    "checkpointed": "checkpointed",
    "conjugate_gradient": "conjugate_gradient(iterations=300, rtol=1e-15)",
    "fixed_point": "fixed_point(terms=1500)",
    "truncated": "truncated(window=3000)",
}


def supervised(loss: str, **fields) -> pudle.ConvolutionalSparseCoding:
    problem = convolutional(loss, **fields)
    noise = np.random.default_rng(11).standard_normal(problem.observations.shape)
    return dataclasses.replace(problem, targets=problem.observations + 0.3 * torch.as_tensor(noise))


def written_out(
    twin: pudle.SparseCoding, targets: Array, dictionary: Array, codes: Array
) -> np.longdouble:
    """The loss by its definition, in the precision of the codes."""
    residual = targets.astype(codes.dtype) - codes @ dictionary.astype(codes.dtype).T
    total = (residual * residual).sum() / 2
    if twin.loss == "lasso":
        total += twin.penalty * np.abs(codes).sum() + twin.l2_penalty / 2 * (codes * codes).sum()
    return total / len(codes)


def test_losses(loss):
    problem = supervised(loss, l2_penalty=0.1)
    twin, _ = dense_twin(problem)
    codes = torch.randn(
        problem.code_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    truth = written_out(
        twin, problem.targets.flatten(1).numpy(), twin.dictionary.numpy(), codes.flatten(1).numpy()
    )
    assert float(problem.outer_loss(codes)) == pytest.approx(
        float(truth), rel=tolerances.SAME_ARITHMETIC
    )
    # The inner problem still uses the observations.
    plain = dataclasses.replace(problem, targets=None)
    assert torch.equal(problem.smooth_gradient(codes), plain.smooth_gradient(codes))


class TestReference:
    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_central_differences(self, loss, nonnegative):
        """Compare with differences of the loss at the exact minimizer, in extended precision."""
        problem = supervised(loss, nonnegative=nonnegative)
        twin, entries = dense_twin(problem)
        reference = pudle.reference(problem)
        assert reference.status == "certified", reference.reason
        assert reference.bound < tolerances.USEFUL_BOUND
        signs = reference.codes.flatten(1).sign().numpy().astype(float)
        x, y = twin.observations.numpy(), problem.targets.flatten(1).numpy()

        def value(filters: Array) -> np.longdouble:
            matrix = dense(filters, entries)
            codes = oracles.polish(x, matrix, problem.penalty, signs)
            assert (np.sign(codes) == signs).all()
            return written_out(twin, y, matrix, codes)

        filters, random = problem.dictionary.numpy(), np.random.default_rng(3)
        for _ in range(3):
            direction = random.standard_normal(filters.shape)
            truth = float(oracles.central_difference(value, filters, direction))
            mine = float((reference.gradient.numpy() * direction).sum())
            size = float(reference.gradient.norm()) * np.linalg.norm(direction)
            assert abs(mine - truth) < tolerances.EXACT_CENTRAL_DIFFERENCES * size

    @pytest.mark.parametrize("l2_penalty", [0.0, 0.1])
    def test_observations_as_targets_change_nothing(self, loss, l2_penalty):
        """With targets the lasso loss is differentiated implicitly, without targets by its envelope
        formula.
        """
        plain = convolutional(loss, l2_penalty=l2_penalty)
        same = pudle.reference(dataclasses.replace(plain, targets=plain.observations))
        truth = pudle.reference(plain)
        assert float((same.gradient - truth.gradient).norm()) <= tolerances.CLOSED_FORM * float(
            truth.gradient.norm()
        )

    def test_lasso_loss_whatever_the_problems(self):
        ghat = pudle.reference(supervised("reconstruction"), "ghat")
        assert torch.equal(ghat.gradient, pudle.reference(supervised("lasso")).gradient)

    @pytest.mark.parametrize("target", ["gstar", "gtilde"])
    def test_formulas_without_targets_are_refused(self, target):
        with pytest.raises(
            pudle.InvalidArgument,
            match="does not hold for a problem with targets: use target='exact'",
        ):
            pudle.reference(supervised("lasso"), target)


class TestEstimators:
    @pytest.mark.parametrize("l2_penalty", [0.0, 0.1])
    @pytest.mark.parametrize("name", CONSISTENT)
    def test_limit(self, name, loss, l2_penalty):
        problem = supervised(loss, l2_penalty=l2_penalty)
        truth = pudle.reference(problem)
        assert truth.status == "certified", truth.reason
        mine = (
            pudle.make_estimator(CONSISTENT[name])
            .estimate(problem, pudle.Fista(restart=True), 150)
            .gradient
        )
        assert float((mine - truth.gradient).norm()) < tolerances.CONVERGED * float(
            truth.gradient.norm()
        )

    @pytest.mark.parametrize(
        "name",
        ["backprop", "forward", "checkpointed", "truncated", "finite_difference", "alternating"],
    )
    def test_finite_depth_against_central_differences(self, name, loss):
        """Compare with differences of layers on the matrix in numpy, through all layers or with
        constant codes.
        """
        problem = supervised(loss)
        twin, entries = dense_twin(problem)
        x, y, filters = (
            twin.observations.numpy(),
            problem.targets.flatten(1).numpy(),
            problem.dictionary.numpy(),
        )
        step, depth = 1 / problem.lipschitz_constant, 6

        def codes_at(at: Array) -> Array:
            return oracles.unroll(x, dense(at, entries), problem.penalty, step, depth)[0]

        codes = codes_at(filters)
        options = {"truncated": f"truncated(window={depth})"}
        gradient = (
            pudle.make_estimator(options.get(name, name))
            .estimate(problem, pudle.Ista(step=step), depth)
            .gradient
        )

        def value(at: Array) -> float:
            return float(
                written_out(
                    twin, y, dense(at, entries), codes if name == "alternating" else codes_at(at)
                )
            )

        direction = np.random.default_rng(4).standard_normal(filters.shape)
        h = 1e-5
        truth = (value(filters + h * direction) - value(filters - h * direction)) / (2 * h)
        size = float(gradient.norm()) * np.linalg.norm(direction)
        assert (
            abs(float((gradient.numpy() * direction).sum()) - truth)
            < tolerances.CENTRAL_DIFFERENCES * size
        )

    def test_constant_codes_leave_an_error_on_either_loss(self, loss):
        problem = supervised(loss)
        mine = (
            pudle.make_estimator("alternating")
            .estimate(problem, pudle.Fista(restart=True), 150)
            .gradient
        )
        twin, entries = dense_twin(problem)
        codes = pudle.reference(problem).codes.flatten(1)
        residual = codes @ twin.dictionary.T - problem.targets.flatten(1)
        held = torch.as_tensor(
            chain((residual.T @ codes).numpy() / len(codes), entries, problem.dictionary.shape)
        )
        assert float((mine - held).norm()) < tolerances.CONVERGED * float(held.norm())
        truth = pudle.reference(problem).gradient
        assert float((mine - truth).norm()) > 0.05 * float(truth.norm())


class TestLearner:
    def test_batches_keep_observations_and_targets_together(self):
        """With vanishing steps, the mean loss over batches is the loss over all samples."""
        problem = supervised("reconstruction", n=5)
        learner = pudle.Learner(
            "alternating",
            "ista(step=0.05)",
            10,
            "sgd(learning_rate=1e-15)",
            epochs=1,
            batch=2,
            chunk=1,
        )
        history = learner.fit(problem).history
        codes = pudle.Ista(step=0.05).run(problem, 10).codes
        assert history.loss.iloc[-1] == pytest.approx(float(problem.outer_loss(codes)), rel=1e-10)
        shuffled = dataclasses.replace(problem, targets=problem.targets.roll(1, 0))
        assert history.loss.iloc[-1] != pytest.approx(float(shuffled.outer_loss(codes)), rel=1e-3)

    def test_a_step_is_that_of_the_estimate(self):
        problem = supervised("reconstruction", n=4)
        estimate = pudle.make_estimator("backprop").estimate(problem, pudle.Ista(step=0.05), 10)
        after = problem.dictionary - 0.01 * estimate.gradient
        after /= after.flatten(1).norm(dim=1)[:, None, None, None]
        for chunk in (None, 3):
            learner = pudle.Learner(
                "backprop", "ista(step=0.05)", 10, "sgd(learning_rate=0.01)", epochs=1, chunk=chunk
            )
            assert torch.allclose(learner.fit(problem).dictionary, after, rtol=0, atol=1e-12)


def test_refusals():
    problem = supervised("lasso")
    for wrong, text in (
        (problem.targets[:1], r"targets has shape \(1, 2, 9, 12\): it must be \(3, 2, 9, 12\)"),
        (problem.targets.float(), "targets"),
        (problem.targets * float("nan"), "targets"),
    ):
        with pytest.raises(pudle.InvalidArgument, match=text):
            dataclasses.replace(problem, targets=wrong)
