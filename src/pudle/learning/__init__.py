"""Trainings: dictionaries learned with any gradient estimator, images denoised, and atoms explained
by samples.
"""
