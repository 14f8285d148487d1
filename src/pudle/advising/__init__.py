"""Which estimator to use on a problem within an error, a time and a memory: `pudle.advise` and
`pudle advise`.
"""
