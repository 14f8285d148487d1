"""Refused options, and the count of layers in the diagnostics."""

import pytest

import pudle


@pytest.mark.parametrize(
    "spec, text",
    [
        ("truncated(window=0)", "window=0 is too small: give a whole number >= 1"),
        ("conjugate_gradient(rtol=0)", "rtol=0 is out of range: give a number > 0"),
        ("spsa(seed=-1)", "seed=-1 is too small: give a whole number >= 0"),
        (
            "fixed_point(terms=2, damping=1.5)",
            "damping=1.5 is out of range: give a number > 0 and <= 1",
        ),
        ("jaxopt_implicit(solver='lu')", "solver='lu' is unknown: choose from normal_cg, cg"),
    ],
)
def test_useless_options_are_refused(spec, text):
    with pytest.raises(pudle.SpecError) as failure:
        pudle.make_estimator(spec)
    assert text in str(failure.value)
