"""References that estimates are scored against: certified exact gradients, and limits of
algorithms.
"""
