"""Checks that an estimator does what it claims, against gradients computed without any
estimator.

>>> from pudle import conformance
>>> records = conformance.check(estimator)
>>> assert not [record for record in records if record.status == "failed"]
"""

from typing import Any

__all__ = ["CHECKS", "Check", "CheckFailure", "CheckRecord", "Distance", "Subject", "check"]


def __getattr__(name: str) -> Any:
    # On first use, because the help and wrong usage of `pudle check` need not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import approximations, checks, claims, contract  # noqa: F401  # they register their checks

    return getattr(checks, name)
