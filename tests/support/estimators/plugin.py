"""A third-party package made for a test: one module, and the metadata from which importlib reads
entry points.
"""

from textwrap import indent

IMPORTS = """
import os
import signal
import sys
import time
from dataclasses import dataclass

import torch

from pudle import Estimate, GradientEstimator, UnsupportedProblem


def zeros(problem):
    return Estimate(torch.zeros_like(problem.theta), problem.initial_codes())
"""

ZEROS = "return zeros(problem)"

#: The lines of `estimate` of each estimator, by its name.
ESTIMATES = {
    "sleeps": "time.sleep(600)",
    "dies": "os.kill(os.getpid(), 9)",
    "exits": "os._exit(3)",
    "raises": f'if depth > 2: raise ZeroDivisionError("planted")\n{ZEROS}',
    "refuses": "raise UnsupportedProblem('refuses: needs a smooth problem: use backprop instead')",
    "not_finite": (
        "missing = torch.full_like(problem.theta, float('nan'))\n"
        "return Estimate(missing, problem.initial_codes())"
    ),
    "transposed": "return Estimate(problem.theta.T.clone(), problem.initial_codes())",
    "hungry": "return Estimate(torch.empty(2**60), problem.initial_codes())",
    "short": ZEROS,
    "quits": "sys.exit(0)",
    "leaves": f"if depth > 2: os._exit(0)\n{ZEROS}",
    "stalls": f"if depth > 2: time.sleep(600)\n{ZEROS}",
    "falls": f"if depth > 2: os.kill(os.getpid(), signal.SIGSEGV)\n{ZEROS}",
    # Good estimates at all depths but the second.
    "nothing": f"if depth == 2: return Estimate(None, None)\n{ZEROS}",
    "unwritable": (
        "good = zeros(problem)\n"
        "layers = {'layers': object()}\n"
        f"if depth == 2: return Estimate(good.gradient, good.codes, layers)\n{ZEROS}"
    ),
    "listed": (
        "good = zeros(problem)\n"
        f"if depth == 2: return Estimate(good.gradient, good.codes, [1, 2])\n{ZEROS}"
    ),
}
#: Further methods of some of them: this one sweeps fewer depths than were asked for.
METHODS = {"short": "def sweep(self, problem, algorithm, depths):\n    yield zeros(problem)"}


def class_name(name):
    """Return the name of an estimator's class."""
    return name.title().replace("_", "")


def source_of(name):
    """Return the source of an estimator's class."""
    estimate = indent(ESTIMATES[name], " " * 8)
    further = indent(METHODS.get(name, ""), " " * 4)
    return f"""
@dataclass(frozen=True)
class {class_name(name)}(GradientEstimator):
    name = "{name}"
    computes = "direct"

    def estimate(self, problem, algorithm, depth):
{estimate}

{further}
"""


BROKEN = IMPORTS + "".join(map(source_of, ESTIMATES))
#: The class of every estimator by its name.
NAMES = {name: class_name(name) for name in ESTIMATES}


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
