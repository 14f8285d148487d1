"""The built-in datasets, one per file. They are found through the ``pudle.datasets`` entry points."""
