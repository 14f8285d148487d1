"""Reading stored experiments."""

import math

import numpy as np
import pytest
from stored_experiments import experiments
from synthetic import (
    interpretation,
    training,
    write_experiments,
)

from pudle.errors import UnreadableResult
from pudle.reports.load import load


def test_null_and_missing_values_are_nan(tmp_path):
    (item,) = experiments(
        tmp_path, training("one", summary={"steps": None, "seconds": 3.0})
    ).experiments
    history = item.history("loss", "relative_error", "nobody measured this")
    assert math.isnan(history["loss"][0]) and history["loss"][1] == 2 * history["relative_error"][1]
    assert history["nobody measured this"].isna().all() and len(history) == 51
    assert math.isnan(item.number("steps")) and item.number("seconds") == 3.0


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"samples": np.zeros((2, 4, 8, 8)), "weights": np.zeros((2, 4))}, "array 'samples'"),
        ({"weights": np.zeros((3, 5))}, "array 'weights'"),
        ({"weights": np.full((3, 4), "x")}, "array 'weights'"),
        ({"atoms": np.zeros((3, 0, 0)), "samples": np.zeros((3, 4, 0, 0))}, "array 'atoms'"),
        ({}, "lacks the arrays weights"),
        ({"more": np.zeros(1 << 26, bool)}, "bytes of memory"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, change, reason):
    record, arrays = interpretation(atoms=3, samples=4)
    del arrays["weights"]
    arrays |= change
    (path,) = write_experiments(tmp_path, [(record | {"arrays": sorted(arrays)}, arrays)])
    with pytest.raises(UnreadableResult, match=f"{path.stem}.*{reason}.*run `pudle run` again"):
        load(tmp_path, "quick")
