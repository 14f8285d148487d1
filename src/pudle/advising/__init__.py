"""Which estimator to use on a problem for the error that is needed and the time and memory that
there are: `pudle.advise` and `pudle advise`.
"""
