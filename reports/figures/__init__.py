"""The figures that files show, drawn with seaborn when they are asked for."""
