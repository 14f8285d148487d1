"""Studies: named experiments, one module per study.

A name, once published, keeps its meaning: change an experiment by adding another.
"""
