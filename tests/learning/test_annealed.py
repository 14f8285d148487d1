"""Trainings whose decay per layer is lowered as they go on, against the same steps written out."""

from dataclasses import fields, replace

import pytest
import torch
from support.oracles.comparisons import refusal

import pudle
from pudle.learning.annealed import AnnealedExperiment
from pudle.learning.options import TrainingOptions
from pudle.learning.studies import published

EXPERIMENT = AnnealedExperiment(
    "sparse_gaussian(n_samples=60, n_features=12, n_components=18, n_nonzero_coefs=2,"
    " perturbation=0.05)",
    "reconstruction",
    algorithm="ista(step=0.2)",
    depth=15,
    optimizer="sgd(learning_rate=1)",
    epochs=7,
    lowered_by=0.05,
    lowered_every=2,
)
STEP, PENALTY = 0.2, 0.2


def steps_written_out(problem, decays):
    """Gradient descent through layers whose threshold in layer t is step * penalty * decay**t."""
    x, d = problem.observations, problem.dictionary.clone()
    for decay in decays:
        d.requires_grad_(True)
        z = torch.zeros(len(x), d.shape[1], dtype=d.dtype)
        for layer in range(EXPERIMENT.depth):
            v = z - STEP * (z @ d.T - x) @ d
            z = v.sign() * (v.abs() - STEP * PENALTY * decay**layer).clamp(min=0)
        loss = 0.5 * (x - z @ d.T).square().sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, d)
        d = d.detach() - gradient
        d /= d.norm(dim=0)
    return d


def test_the_decay_is_lowered_where_the_authors_lower_it(tmp_path):
    # Lowered before every second step, counted from 1: in the steps 2, 4 and 6.
    decays = (1, 0.95, 0.95, 0.9, 0.9, 0.85, 0.85)
    learned = torch.as_tensor(EXPERIMENT.run(tmp_path).arrays["dictionary"])
    expected = steps_written_out(EXPERIMENT.problem(), decays)
    torch.testing.assert_close(learned, expected, rtol=0, atol=1e-12)
    # The decays make a difference of another order.
    constant = steps_written_out(EXPERIMENT.problem(), (1,) * 7)
    assert (learned - constant).norm() > 1e-3


def test_a_training_that_is_resumed_goes_on_with_the_decay_of_its_step(tmp_path):
    whole = EXPERIMENT.run(tmp_path / "whole").arrays["dictionary"]
    replace(EXPERIMENT, epochs=3).run(tmp_path / "parts")
    assert (EXPERIMENT.run(tmp_path / "parts").arrays["dictionary"] == whole).all()
    message = refusal(
        lambda: replace(EXPERIMENT, lowered_every=3).run(tmp_path / "parts"), pudle.PudleError
    )
    assert "annealed" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lowered_by": 0.4}, "must stay above zero"),
        ({"lowered_by": 0.0}, "lowered_by"),
        ({"lowered_every": 0}, "lowered_every"),
        ({"gradient_error": 1}, "needs the minimizer of the lasso"),
    ],
)
def test_what_cannot_be_annealed_so_is_refused(changes, words, tmp_path):
    assert words in refusal(lambda: replace(EXPERIMENT, **changes).run(tmp_path))


def test_the_study_has_the_decays_of_the_authors_script():
    learner = published.EXPERIMENTS["annealed-s10-s0"].learner()
    assert [learner.decay_at(step) for step in (0, 98, 99, 199, 999)] == [1, 1, 0.995, 0.99, 0.95]
    constant = published.RECOVERY["2b-s10-constant"]
    for field in fields(TrainingOptions):
        if field.name != "epochs":
            assert getattr(learner, field.name) == getattr(constant, field.name)
