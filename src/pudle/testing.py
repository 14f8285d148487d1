"""Assertions for tests of your own."""

from typing import Any

from .auditing.audit import audit

__all__ = ["assert_gradient"]


def assert_gradient(layer: Any, *inputs: Any, tolerance: float = 1e-2, **options: Any) -> None:
    """Assert that the gradient of a layer is right.

    Parameters
    ----------
    layer, *inputs : object
        See `pudle.audit`.
    tolerance : float
        Error up to which a gradient may be ``inexact``, relative to its norm.
    **options : object
        Those of `pudle.audit`, such as `step`.

    Raises
    ------
    AssertionError
        If it is not; the text is that of the audit.
    """
    __tracebackhide__ = True
    report = audit(layer, *inputs, **options)
    if not report.passes(tolerance):
        raise AssertionError(f"\n{report!r}")
