"""What a run measures: a module for each kind of result. It says what a result depends on, where it
lies, what its record holds, and how it is measured; nothing else asks which kind a result is.
"""
