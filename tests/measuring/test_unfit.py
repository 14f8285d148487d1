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
from pudle.measuring.run import Run
from pudle.references.certified import MINIMIZER_TARGETS

RIDGE = dataclasses.replace(TINY, dataset="ridge(n_samples=3, n_components=4)", loss="linear")
UNFIT = {
    "loss": (
        dataclasses.replace(TINY, loss="linear"),
        "sparse_gaussian has no loss 'linear': use lasso or reconstruction",
    ),
    "algorithm": (
        dataclasses.replace(TINY, algorithm="iteration"),
        "iteration needs a FixedPoint, which brings its step, not SparseCoding: use ista or fista",
    ),
    "threshold": (
        dataclasses.replace(TINY, algorithm="ista(thresholding='hard')", targets=("ghat", "exact")),
        (
            "hard thresholding leads to no minimizer of the inner problem, which target='exact'"
            " rests on: use the target gstar, gtilde or limit"
        ),
    ),
    "target": (
        dataclasses.replace(RIDGE, targets=("gstar",)),
        "target='gstar' is defined for sparse coding only",
    ),
    "data": (
        dataclasses.replace(
            TINY, dataset="digits(n_samples=9, n_components=9)", targets=("gtilde",)
        ),
        "target='gtilde' needs generating_codes, which this problem lacks",
    ),
    "step": (dataclasses.replace(TINY, dataset="logistic", loss="held_out"), "FixedPoint"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_unsupported_with_the_reason(name, store):
    case, reason = UNFIT[name]
    record = Scores(case, "backprop").measure(store)
    assert {row.status for row in record.scores} == {"unsupported"}
    assert record.status not in BROKEN
    assert reason in record.reason and "\n" not in record.reason
    assert len(record.scores) == len(case.seeds) * len(case.depths) * len(case.targets)


def test_a_target_that_fits_is_scored_beside_one_that_does_not(store):
    case = dataclasses.replace(
        TINY, targets=("exact", "gstar", "gtilde"), algorithm="ista(thresholding='hard')"
    )
    record = Scores(case, "alternating").measure(store)
    statuses = {(row.target, row.status) for row in record.scores}
    assert statuses == {("exact", "unsupported"), ("gstar", "ok"), ("gtilde", "ok")}


@pytest.mark.slow
def test_a_run_of_such_pairs_breaks_nothing_and_leaves_nothing_to_do(store):
    cases = tuple(
        dataclasses.replace(case, name=name, seeds=(0,)) for name, (case, _) in UNFIT.items()
    )
    selection = selected("alternating", cases=cases)
    run = filled(selection, store)
    assert [run.records[each].status for each in run.scores] == ["unsupported"] * len(UNFIT)
    assert not any(stage.works for stage in Run(selection, store).missing())


def test_a_reference_that_another_algorithm_left_does_not_make_a_case_fit(store):
    assert Scores(TINY, "alternating").measure(store).status == "ok"
    case, reason = UNFIT["threshold"]
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
