"""A third-party package made for a test: one module, and the metadata from which importlib reads
entry points.
"""

import re

BROKEN = """
import os
import signal
import sys
import time
from dataclasses import dataclass

import torch

from pudle import Estimate, GradientEstimator, UnsupportedProblem


def zeros(problem):
    return Estimate(torch.zeros_like(problem.theta), problem.initial_codes())


class Base(GradientEstimator):
    computes = "direct"


@dataclass(frozen=True)
class Sleeps(Base):
    name = "sleeps"

    def estimate(self, problem, algorithm, depth):
        time.sleep(600)


@dataclass(frozen=True)
class Dies(Base):
    name = "dies"

    def estimate(self, problem, algorithm, depth):
        os.kill(os.getpid(), 9)


@dataclass(frozen=True)
class Exits(Base):
    name = "exits"

    def estimate(self, problem, algorithm, depth):
        os._exit(3)


@dataclass(frozen=True)
class Raises(Base):
    name = "raises"

    def estimate(self, problem, algorithm, depth):
        if depth > 2:
            raise ZeroDivisionError("planted")
        return zeros(problem)


@dataclass(frozen=True)
class Refuses(Base):
    name = "refuses"

    def estimate(self, problem, algorithm, depth):
        raise UnsupportedProblem("refuses: needs a smooth problem: use backprop instead")


@dataclass(frozen=True)
class NotFinite(Base):
    name = "not_finite"

    def estimate(self, problem, algorithm, depth):
        return Estimate(torch.full_like(problem.theta, float("nan")), problem.initial_codes())


@dataclass(frozen=True)
class Transposed(Base):
    name = "transposed"

    def estimate(self, problem, algorithm, depth):
        return Estimate(problem.theta.T.clone(), problem.initial_codes())


@dataclass(frozen=True)
class Hungry(Base):
    name = "hungry"

    def estimate(self, problem, algorithm, depth):
        return Estimate(torch.empty(2**60), problem.initial_codes())


@dataclass(frozen=True)
class Short(Base):
    name = "short"

    def estimate(self, problem, algorithm, depth):
        return zeros(problem)

    def sweep(self, problem, algorithm, depths):
        yield zeros(problem)


@dataclass(frozen=True)
class Quits(Base):
    name = "quits"

    def estimate(self, problem, algorithm, depth):
        sys.exit(0)


@dataclass(frozen=True)
class Leaves(Base):
    name = "leaves"

    def estimate(self, problem, algorithm, depth):
        if depth > 2:
            os._exit(0)
        return zeros(problem)


@dataclass(frozen=True)
class Stalls(Base):
    name = "stalls"

    def estimate(self, problem, algorithm, depth):
        if depth > 2:
            time.sleep(600)
        return zeros(problem)


@dataclass(frozen=True)
class Falls(Base):
    name = "falls"

    def estimate(self, problem, algorithm, depth):
        if depth > 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        return zeros(problem)


class Odd(Base):
    # Good estimates at all depths but the second.

    def estimate(self, problem, algorithm, depth):
        good = zeros(problem)
        return self.odd(good) if depth == 2 else good


@dataclass(frozen=True)
class Nothing(Odd):
    name = "nothing"

    def odd(self, good):
        return Estimate(None, None)


@dataclass(frozen=True)
class Unwritable(Odd):
    name = "unwritable"

    def odd(self, good):
        return Estimate(good.gradient, good.codes, {"layers": object()})


@dataclass(frozen=True)
class Listed(Odd):
    name = "listed"

    def odd(self, good):
        return Estimate(good.gradient, good.codes, [1, 2])
"""

#: Every class by its name.
NAMES = {
    name: cls
    for cls, name in re.findall(r'^class (\w+)\(.*\):\n    name = "(\w+)"', BROKEN, re.MULTILINE)
}


def write_plugin(folder, names, module="broken_plugin"):
    """Write a package that registers some of the estimators above, and return the folder to put on
    the path.
    """
    points = "\n".join(
        ["[pudle.estimators]", *(f"{name} = {module}:{NAMES[name]}" for name in names)]
    )
    return write_package(folder, module, BROKEN, points)


def write_package(folder, module, source, points):
    """Write a package of one module with some entry points, and return the folder to put on the
    path.
    """
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-0.1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(points + "\n")
    return folder
