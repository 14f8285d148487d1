"""Checks that an estimator does what it claims, against closed forms that use none of the suite's own kernels."""

from .checks import CHECKS, GRID, Check, NotMet, Record, check

__all__ = ["CHECKS", "GRID", "Check", "NotMet", "Record", "check"]
