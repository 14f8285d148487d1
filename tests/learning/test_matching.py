"""Atoms are paired by the best assignment, up to order and sign."""

import dataclasses
from itertools import permutations, product

import numpy as np
import pytest
from support.problems.learning import planted

from pudle import Learner, match_atoms


def test_it_is_the_best_of_all_pairings_and_gives_its_order_and_signs():
    learned, generating = np.random.default_rng(12).standard_normal((2, 3, 4))
    matching = match_atoms(learned, generating)
    best = min(
        np.linalg.norm(learned[:, list(order)] * signs - generating)
        for order in permutations(range(4))
        for signs in product([-1.0, 1.0], repeat=4)
    )
    paired = learned[:, matching.places] * matching.signs
    assert matching.error == pytest.approx(best, rel=1e-12)
    assert np.linalg.norm(paired - generating) == pytest.approx(best, rel=1e-12)
    assert matching.relative_error == pytest.approx(best / np.linalg.norm(generating), rel=1e-12)


def test_more_learned_atoms_than_generating_ones():
    generating = np.eye(4)[:, :2]
    matching = match_atoms(np.eye(4)[:, [3, 1, 2, 0]], generating)
    assert matching.places.tolist() == [3, 1] and matching.error == 0


def test_supports_are_compared_after_matching():
    problem = planted()
    order = np.random.default_rng(13).permutation(30)
    shuffled = dataclasses.replace(problem, dictionary=-problem.dictionary[:, order])
    histories = [
        Learner("alternating", "ista", 30, epochs=1).fit(which).history
        for which in (problem, shuffled)
    ]
    for column in ("dictionary_error", "support_recovery"):
        np.testing.assert_allclose(histories[0][column], histories[1][column], rtol=1e-9)
