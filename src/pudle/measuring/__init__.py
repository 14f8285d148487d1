"""From an estimate to a stored score: cases, scoring, processes that can be killed, and where
numbers come from.
"""
