"""`pudle.benchmark` and what it returns, for Python and notebooks."""
