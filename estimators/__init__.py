"""The built-in gradient estimators, one per file. They are found through the ``pudle.estimators``
entry points.
"""
