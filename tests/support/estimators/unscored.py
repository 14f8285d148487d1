"""Plug-ins whose `estimate` does less, or somewhere else, than the gradient that scores are of."""

import atexit
import functools
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from pudle import Estimate, GradientEstimator, make_estimator
from pudle.estimators.backprop import Backprop

BACKPROP = make_estimator("backprop")


class Ones(Backprop):
    """Ones, next to an inherited `sweep` that is right."""

    name = "ones"

    def estimate(self, problem, algorithm, depth):
        return Estimate(torch.ones_like(problem.theta), problem.initial_codes())


class Remembered(Backprop):
    """The result for the same theta and depth is kept: right, and quick only if nothing is new."""

    name, results = "remembered", {}

    def sweep(self, problem, algorithm, depths):
        for depth in depths:
            key = problem.theta.numpy().tobytes(), depth
            if key not in self.results:
                self.results[key] = BACKPROP.estimate(problem, algorithm, depth)
            yield self.results[key]


class Rounded(Backprop):
    """The result is kept for the rounded theta, and so belongs to another theta."""

    name, results = "rounded", {}

    def sweep(self, problem, algorithm, depths):
        for depth in depths:
            key = problem.theta.numpy().round(3).tobytes(), depth
            if key not in self.results:
                self.results[key] = BACKPROP.estimate(problem, algorithm, depth)
            yield self.results[key]


class ByIdentity(Backprop):
    """The result is kept for the object that holds the samples."""

    name, results = "by_identity", {}

    def sweep(self, problem, algorithm, depths):
        for depth in depths:
            key = id(problem.observations), depth
            if key not in self.results:
                # The samples are kept, too, so that the identity stays theirs.
                estimate = BACKPROP.estimate(problem, algorithm, depth)
                self.results[key] = estimate, problem.observations
            yield self.results[key][0]


class ByShape(Backprop):
    """A part, the Gram matrix of the dictionary, is kept for its shape."""

    name, grams = "by_shape", {}

    def sweep(self, problem, algorithm, depths):
        gram = problem.theta.T @ problem.theta
        stale = self.grams.setdefault(gram.shape, gram)
        for depth in depths:
            estimate = BACKPROP.estimate(problem, algorithm, depth)
            part = problem.theta @ (gram - stale)
            yield Estimate(estimate.gradient - part, estimate.codes)


def compute(times, stop=None):
    """Multiply matrices, during which other threads go on, until it is enough."""
    matrix = torch.eye(150, dtype=torch.float64)
    for _ in range(times):
        if stop is not None and stop.is_set():
            return
        matrix = torch.tanh(matrix @ matrix)


class Threads(Backprop):
    """Three threads compute side by side."""

    name = "threads"

    def estimate(self, problem, algorithm, depth):
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(compute, [10] * 3))
        return BACKPROP.estimate(problem, algorithm, depth)


class Children(Backprop):
    """Two processes of its own compute beside the calling one."""

    name = "children"

    @functools.cached_property
    def pool(self):
        pool = multiprocessing.get_context("fork").Pool(2)
        atexit.register(pool.terminate)
        return pool

    def estimate(self, problem, algorithm, depth):
        results = [self.pool.apply_async(compute, (10,)) for _ in range(2)]
        compute(10)
        for result in results:
            result.get()
        return BACKPROP.estimate(problem, algorithm, depth)


class Alone(Backprop):
    """The calling thread computes 20 ms more, so that a busy machine gives other threads a turn."""

    name = "alone"

    def estimate(self, problem, algorithm, depth):
        compute(80)
        return BACKPROP.estimate(problem, algorithm, depth)


class Later(Alone):
    """A thread goes on after the result is there, with work that the next call needs."""

    name, stop, thread = "later", threading.Event(), None

    def estimate(self, problem, algorithm, depth):
        cls = type(self)
        if cls.thread is None:
            cls.thread = threading.Thread(target=compute, args=(10**9, self.stop), daemon=True)
            cls.thread.start()
            atexit.register(self.stop.set)
        return super().estimate(problem, algorithm, depth)


class Previous(GradientEstimator):
    """A call returns the gradient that the call before has asked for."""

    name, computes, kept = "previous", "unrolled", {}

    def estimate(self, problem, algorithm, depth):
        key = depth, problem.observations.shape
        before = self.kept.get(key, (problem, algorithm))
        self.kept[key] = problem, algorithm
        return BACKPROP.estimate(*before, depth)
