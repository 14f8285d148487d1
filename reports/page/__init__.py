"""The page: one HTML file that carries its data, its templates and scripts, and the index of
several results.
"""
