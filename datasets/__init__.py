"""The built-in datasets, one per file, found through the ``pudle.datasets`` entry points."""
