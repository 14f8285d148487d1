"""A third-party package made for a test: one module, and the metadata from which importlib reads entry points."""

from __future__ import annotations

from pathlib import Path

BROKEN = """
import os
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
"""

NAMES = {
    "sleeps": "Sleeps", "dies": "Dies", "exits": "Exits", "raises": "Raises", "refuses": "Refuses",
    "not_finite": "NotFinite", "transposed": "Transposed", "hungry": "Hungry", "short": "Short",
}  # fmt: skip


def write_plugin(folder: Path, names: list[str], module: str = "broken_plugin") -> Path:
    """Write a package that registers some of the estimators above, and return the folder to put on the path."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(BROKEN)
    info = folder / f"{module}-0.1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 0.1\n")
    lines = [f"{name} = {module}:{NAMES[name]}" for name in names]
    (info / "entry_points.txt").write_text("\n".join(["[pudle.estimators]", *lines]) + "\n")
    return folder
