"""Datasets, algorithms, losses and targets that do not fit each other: unsupported, with the
reason, and never broken.
"""

import dataclasses

import pytest
from examples import TINY, filled, selected

from pudle import names
from pudle.measuring.contents import BROKEN
from pudle.measuring.results.reference import CaseReference
from pudle.measuring.results.score import Scores
from pudle.references.certified import MINIMIZER_TARGETS

HARD = "ista(thresholding='hard')"
#: Changes of a case that does not fit then, and the reason.
UNFIT = {
    "loss": (
        {"loss": "linear"},
        "sparse_gaussian has no loss 'linear': use lasso or reconstruction",
    ),
    "algorithm": (
        {"algorithm": "iteration"},
        "iteration needs a FixedPoint, which brings its step, not SparseCoding: use ista or fista",
    ),
    "threshold": (
        {"algorithm": HARD, "targets": ("ghat", "exact")},
        "hard thresholding leads to no minimizer of the inner problem, which target='exact' rests"
        " on: use the target gstar, gtilde or limit",
    ),
    "target": (
        {"dataset": "ridge(n_samples=3)", "loss": "linear", "targets": ("gstar",)},
        "target='gstar' is defined for sparse coding only",
    ),
    "data": (
        {"dataset": "digits(n_samples=9, n_components=9)", "targets": ("gtilde",)},
        "target='gtilde' needs generating_codes, which this problem lacks",
    ),
    "step": ({"dataset": "equilibrium", "loss": "cross_entropy"}, "FixedPoint"),
}


def unfit(name):
    changes, reason = UNFIT[name]
    return dataclasses.replace(TINY, **changes), reason


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_unsupported_with_the_reason(name, store):
    """A run breaks nothing, and leaves nothing to do."""
    case, reason = unfit(name)
    run = filled(selected("backprop", cases=(case,)), store)
    record = run.records[run.scores[0]]
    assert record.status not in BROKEN
    assert {row.status for row in record.scores} == {"unsupported"}
    assert reason in record.reason and "\n" not in record.reason
    assert len(record.scores) == len(case.seeds) * len(case.depths) * len(case.targets)
    assert not any(stage.works for stage in run.missing())


def test_a_target_that_fits_is_scored_beside_one_that_does_not(store):
    targets = ("exact", "gstar", "gtilde")
    case = dataclasses.replace(TINY, targets=targets, algorithm=HARD)
    record = Scores(case, "alternating").measure(store)
    statuses = {(row.target, row.status) for row in record.scores}
    assert statuses == {("exact", "unsupported"), ("gstar", "ok"), ("gtilde", "ok")}


def test_a_reference_that_another_algorithm_left_does_not_make_a_case_fit(store):
    assert Scores(TINY, "alternating").measure(store).status == "ok"
    case, reason = unfit("threshold")
    assert CaseReference(case, 0, "exact").read(store) is not None
    record = Scores(case, "alternating").measure(store)
    assert record.status == "unsupported" and reason in record.reason


def test_every_case_of_the_profiles_fits():
    for profile in names.list_profiles().values():
        for case in profile.cases:
            assert case.loss in names.make_dataset(case.dataset).losses, case
            assert case.make_algorithm().thresholding.proximal or not set(case.targets) & set(
                MINIMIZER_TARGETS
            ), case
