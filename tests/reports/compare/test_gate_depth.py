"""Why docs/gate.md gates where errors are small: at a small depth, mistakes pass the gate."""

import re

import pytest
from support.paths import ROOT

import pudle
from pudle.reports.compare.judge import ErrorLimit

ROW = re.compile(
    r"^\| (\d+) \| ([\d.]+) \| ([\d.]+): (passes|fails) \| ([\d.]+): (passes|fails) \|$",
    re.MULTILINE,
)


def test_the_guide_says_at_which_depths_mistakes_pass():
    rows = ROW.findall((ROOT / "docs" / "gate.md").read_text())
    assert {row[3] for row in rows} == {row[5] for row in rows} == {"passes", "fails"}
    problem = pudle.make_dataset("sparse_gaussian(n_samples=200, seed=0)").problem(loss="lasso")
    reference = pudle.reference(problem)
    for depth, right, *mistakes in rows:
        whole, one_less = (
            pudle.make_estimator(f"truncated(window={window})").estimate(
                problem, pudle.Ista(step=0.2), int(depth)
            )
            for window in (10, 9)
        )
        short = pudle.Estimate(0.98 * whole.gradient, whole.codes)
        error, *others = (
            pudle.score(estimate, reference).relative_error for estimate in (whole, one_less, short)
        )
        assert float(right) == pytest.approx(error, rel=5e-3)
        for other, stated, verdict in zip(others, mistakes[::2], mistakes[1::2], strict=True):
            assert float(stated) == pytest.approx(other, rel=5e-3)
            # Whatever its sign, a change below the factor is no regression.
            assert (other / error > ErrorLimit().ratio) == (verdict == "fails"), (depth, stated)
