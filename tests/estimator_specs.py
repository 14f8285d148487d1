"""The registered estimators, with options for those that need some."""

from __future__ import annotations

import pudle

NAMES = sorted(pudle.list_estimators())
#: Options for estimators that need some; all others are made by their bare name.
EXAMPLE_SPECS = {
    "truncated": "truncated(window=5)",
    "fixed_point": "fixed_point(terms=20)",
}
#: Options for estimators that reach what they claim in the limit of an option.
LIMIT_SPECS = EXAMPLE_SPECS | {
    "fixed_point": "fixed_point(terms=1000)",
    "conjugate_gradient": "conjugate_gradient(iterations=100, rtol=1e-15)",
}
