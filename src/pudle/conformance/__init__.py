"""Checks that an estimator does what it claims, against gradients computed in numpy without any
estimator.

>>> from pudle import conformance
>>> records = conformance.check(estimator)
>>> assert not [record for record in records if record.status == "failed"]
"""

from typing import Any

__all__ = ["CHECKS", "GRID", "Check", "Distance", "NotMet", "Record", "check"]


def __getattr__(name: str) -> Any:
    # On first use, because the help and wrong usage of `pudle check` need not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # contract, claims, random_problems, edge_cases and iterations register their checks, in this
    # order.
    from . import checks, specimens  # isort: skip
    from . import contract, claims, random_problems  # noqa: F401  # isort: skip
    from . import edge_cases, iterations  # noqa: F401  # isort: skip

    return getattr(specimens if name == "GRID" else checks, name)
