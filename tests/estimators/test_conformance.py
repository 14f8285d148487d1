"""The contract of every registered estimator, built-in or plug-in. Only options name an estimator
here.

The checks themselves are those of `pudle check`. The tests add requirements on registered
estimators, and comparisons that are too slow or too special for that command.
"""

import pytest
from support.estimators.estimator_specs import EXAMPLE_SPECS, NAMES

import pudle
from pudle import conformance
from pudle.bench.cases import PEERS

#: Specs of the same classes with options that change what is claimed.
VARIANTS = (
    "finite_difference(directions=15)",
    "checkpointed(segments=5)",
    "truncated(window=1)",
    "fixed_point(terms=1)",
)
#: Checks that take seconds for each estimator, and the estimators for which every run of the tests
#: carries them out; of the others such a run takes a fifth,
#: and none of another library. All are nightly, and so are the longest two for all estimators:
#: every run carries out a part of them, here and in test_approximations.py.
LONG = {"mean", "consistency", "samples", "direction", "repeatable"}
LONGEST = {"claim", "approach"}
ALWAYS = {"alternating"}

SPECS = [EXAMPLE_SPECS.get(name, name) for name in NAMES]


def checked():
    """Return every estimator with every check; most are nightly, because they take minutes."""
    cases = []
    for row, spec in enumerate((*SPECS, *VARIANTS)):
        for column, check in enumerate(conformance.CHECKS):
            seldom = spec in PEERS or check in LONG or (row + column) % 5
            nightly = check in LONGEST or (spec not in ALWAYS and seldom)
            cases.append(pytest.param(spec, check, marks=[pytest.mark.nightly] if nightly else []))
    return cases


@pytest.mark.parametrize("spec, check", checked())
def test_check(spec, check):
    records = conformance.check(pudle.make_estimator(spec), names=(check,))
    failed = [record for record in records if record.status == "failed"]
    assert not failed, f"{len(failed)} of {len(records)} failed, the first being {failed[0]}"


@pytest.mark.parametrize("spec", SPECS)
def test_the_claim_holds_on_some_problems(spec):
    """Every run carries out this much of the longest check: for one estimator a quarter, and for
    the others that on ridge regression.
    """
    check = conformance.CHECKS["claim"]
    subjects = check.subjects(pudle.make_estimator(spec))
    if spec not in ALWAYS:
        subjects = [each for each in subjects if each.specimen.problem.startswith("ridge")]
    for subject in subjects[::4]:
        record = check(subject)
        assert record.status in ("passed", "refused"), record
