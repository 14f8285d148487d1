"""The study of what else was published: its settings are those of the paper's authors, and the
profiles have all of it, reduced or whole.
"""

from fnmatch import filter as matching

import pytest

import pudle
from pudle.bench.cases import PROFILES
from pudle.learning.studies import denoising, published

#: Authors' settings that the paper does not state: `train_dl_compare_baselines.py` and the
#: configurations beside it.
AUTHORS_RATE, AUTHORS_BATCH = 20, 50


def test_noodl_has_the_authors_rate_divided_by_their_batch_once_more():
    for name in matching(published.EXPERIMENTS, "noodl-*"):
        experiment = published.EXPERIMENTS[name]
        optimizer = experiment.parts.optimizer
        assert optimizer.learning_rate == AUTHORS_RATE / AUTHORS_BATCH and optimizer.name == "sgd"
        assert (experiment.batch, experiment.epochs, experiment.depth) == (AUTHORS_BATCH, 1, 100)


def test_data_with_noise_have_the_noise_of_the_authors():
    experiment = published.EXPERIMENTS["noise-T25-backprop-lasso-s1"]
    clean = published.EXPERIMENTS["rates-T100-1e-3-backprop-lasso-s1"]
    assert (experiment.data.noise, clean.data.noise) == (0.12, 0)
    assert experiment.data.n_samples == clean.data.n_samples == 10_000


@pytest.mark.parametrize(
    "family", ["noise", "rates", "batches", "noodl", "annealed", "gap", "pairs"]
)
def test_every_family_is_whole_in_paper_and_none_of_it_is_in_default_at_full_size(family):
    names = matching(published.EXPERIMENTS, f"{family}-*")
    assert names and set(matching(PROFILES["paper"].experiments, f"{family}-*")) <= set(names)
    assert matching(PROFILES["paper"].experiments, f"{family}-*")
    reduced = matching(PROFILES["default"].experiments, f"{family}-*")
    assert all("-small-" in name for name in reduced)


def test_penalties_and_thresholds_are_those_that_were_published_and_all_are_options():
    experiments = {
        name: experiment
        for name, experiment in denoising.EXPERIMENTS.items()
        if "penalty-" in name or "hard-" in name
    }
    assert len(experiments) == 2 * (2 * 5 + 4)
    for name, experiment in experiments.items():
        value = float(name.split("-")[-2])
        if "penalty" in name:
            assert experiment.data.penalty == value
        else:
            assert pudle.make_algorithm(experiment.algorithm).thresholding.threshold == value
