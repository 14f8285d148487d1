"""Trainings in the report: recovery, optimizers, denoising and interpretation."""
