"""Forward mode, where warnings are errors."""

import warnings

from support.estimators.estimator_specs import estimate
from support.problems.small_problems import sparse_problem
from torch.autograd import forward_ad

import pudle


def test_forward_mode_warns_of_nothing_where_warnings_are_errors(monkeypatch):
    """When torch loads its rules for forward mode, it warns of what these use."""
    make_dual = forward_ad.make_dual

    def load(*arguments, **options):
        warnings.warn("`torch.jit.script` is deprecated.", DeprecationWarning, stacklevel=2)
        return make_dual(*arguments, **options)

    monkeypatch.setattr(forward_ad, "make_dual", load)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate("forward", sparse_problem(), pudle.Ista(), 2)
