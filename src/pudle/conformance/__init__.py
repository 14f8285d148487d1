"""Checks that an estimator does what it claims, against gradients computed in numpy without any estimator.

>>> from pudle import conformance
>>> records = conformance.check(estimator)
>>> assert not [record for record in records if record.status == "failed"]
"""

# Importing these registers their checks: first those of the contract, which claims imports, then claims and edge cases.
from . import claims, contract, edge_cases  # noqa: F401
from .checks import CHECKS, Check, NotMet, Record, check
from .contract import GRID

__all__ = ["CHECKS", "GRID", "Check", "NotMet", "Record", "check"]
