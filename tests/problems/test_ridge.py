"""What ridge regression refuses; its closed forms are among the checks of estimators."""

import pytest
import torch
from comparisons import refusal

import pudle

ONES = torch.ones(5, dtype=torch.float64)
REFUSED = [
    ({"weights": ONES[:4]}, "weights (4,); give (n, m), (m, p) and (p,)"),
    ({"strength": -1.0}, "strength=-1.0 is out of range: give a number >= 0"),
    ({"strength": 0.0}, "leaves the inner problem flat: give a larger strength"),
    ({"theta": ONES[:1]}, "theta has shape (1,): give a tensor of shape ()"),
]


@pytest.mark.parametrize("changes, text", REFUSED)
def test_bad_input_is_refused(changes, text):
    good = {"observations": torch.ones(4, 3).double(), "dictionary": torch.eye(3, 5).double()}
    good |= {"strength": 0.1, "weights": ONES}
    assert text in refusal(lambda: pudle.Ridge(**good | changes))
