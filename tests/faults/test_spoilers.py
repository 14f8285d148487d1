"""Plug-ins that spoil the process that they run in: nobody else's number differs, and no process of
theirs outlives them.
"""

import json
import os
import uuid

import pytest
from support.estimators.plugin import write_package
from support.processes import commands
from support.processes.live import gone

from pudle.workers import Job, Pool

#: What each plug-in does to its process before it gives a good estimate, by its name.
SPOILS = {
    "changes_folder": "os.chdir('/')",
    "removes_folder": "os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd())",
    "clears_environment": "os.environ.clear()",
    "sets_environment": "os.environ.update(PUDLE_KERNELS='torch', OMP_NUM_THREADS='7')",
    "default_device": "torch.set_default_device('meta')",
    "default_dtype": "torch.set_default_dtype(torch.float16)",
    "inference": "torch.inference_mode().__enter__()",
    "no_gradients": "torch.set_grad_enabled(False)",
    "detects_anomalies": "torch.autograd.set_detect_anomaly(True)",
    "seeds": "torch.manual_seed(7); random.seed(7); numpy.random.seed(7)",
    "threads": "torch.set_num_threads(3)",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "flushes_denormals": "torch.set_flush_denormal(True)",
    "patches_norm": "torch.Tensor.norm = lambda self, *rest, **named: torch.zeros(())",
    "patches_isfinite": "torch.Tensor.isfinite = lambda self: torch.zeros(self.shape) > 1",
    "patches_sum": "torch.Tensor.sum = lambda self, *rest, **named: torch.ones(())",
    "patches_numpy": "numpy.savez = numpy.load = numpy.array = None",
    "patches_json": "json.dumps = json.loads = None",
    "patches_path": "pathlib.Path.replace = pathlib.Path.exists = lambda *_: False",
    "patches_score": "pudle.measuring.scoring.score = pudle.names.making.make = lambda *_: None",
    "few_files": "resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))",
    "small_files": "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))",
    "closes_files": "os.closerange(20, 400)",
    "no_recursion": "sys.setrecursionlimit(120)",
    "floating_errors": "numpy.seterr(all='raise')",
    "warnings_raise": "warnings.simplefilter('error')",
    "other_locale": "locale.setlocale(locale.LC_ALL, 'C'); os.umask(0o777)",
    "empties_modules": "sys.modules.pop('pudle.estimators.backprop', None); sys.path.clear()",
    "own_session": "subprocess.Popen(['sleep', '600'], start_new_session=True)",
    "two_forks": (
        "pid = os.fork()\n        if not pid:\n            os.setsid()\n"
        "            os.fork() and os._exit(0)\n            os.execlp('sleep', 'sleep', '600')"
    ),
}
#: Those that a fast test runs; all of them take minutes.
SOME = ("changes_folder", "default_device", "patches_norm", "two_forks")
GOOD = ("good_one", "good_two")
BUILT_IN = ("alternating", "backprop", "truncated(window=2)")
MODULE = """
import json, locale, os, pathlib, random, resource, subprocess, sys, tempfile, warnings
from dataclasses import dataclass

import numpy
import torch

import pudle
from pudle import Estimate, GradientEstimator
from pudle.algorithms.unrolling import check_depths, direct_gradients


class Base(GradientEstimator):
    computes = "direct"

    def spoil(self):
        pass

    def estimate(self, problem, algorithm, depth):
        with torch.no_grad():
            codes = algorithm.run(problem, *check_depths([depth])).codes
        gradient, _ = direct_gradients(problem, codes)
        self.spoil()
        return Estimate(gradient, codes)
"""
CLASS = """

@dataclass(frozen=True)
class {name}(Base):
    name = "{name}"

    def spoil(self):
        {code}
"""


def package(folder, spoils):
    """Write one package of the good plug-ins and of some that spoil."""
    codes = dict.fromkeys(GOOD, "pass") | {name: SPOILS[name] for name in spoils}
    source = MODULE + "".join(CLASS.format(name=name, code=code) for name, code in codes.items())
    points = "\n".join(["[pudle.estimators]", *(f"{name} = spoilers:{name}" for name in codes)])
    return write_package(folder, "spoilers", source, points)


def scores(home):
    """Return the scores of a run's records by case and estimator."""
    records = [json.loads(path.read_text()) for path in home.rglob("*-lasso/*.json")]
    return {
        (record["case"]["name"], record["estimator"]): json.dumps(record["scores"], sort_keys=True)
        for record in records
    }


def arguments_of(spoils):
    """Return the command that runs two cases with built-in estimators, the good plug-ins and some
    that spoil.
    """
    arguments = "run --home home --only --workers 2 --depth 3 --scores-only --loss lasso".split()
    for size in (10, 12):
        arguments += ["--dataset", f"sparse_gaussian(n_samples={size})"]
    for estimator in (*BUILT_IN, *GOOD, *spoils):
        arguments += ["--estimator", estimator]
    return arguments


@pytest.mark.parametrize(
    "spoils", [SOME, pytest.param(tuple(SPOILS), marks=pytest.mark.nightly)], ids=["some", "all"]
)
def test_what_one_plugin_does_to_its_process_changes_nothing_of_others(spoils, tmp_path, installed):
    mark, folders = f"mark-{uuid.uuid4().hex}", [tmp_path / "alone", tmp_path / "beside"]
    for folder in folders:
        folder.mkdir()
    path = package(folders[1] / "site", spoils)
    done = commands.run(*arguments_of(spoils), cwd=folders[1], path=path, env={"MARK": mark})
    assert gone(mark, 1)
    # Last, because later processes would find these plug-ins first.
    installed(package(folders[0] / "site", ()))
    commands.call(*arguments_of(()), cwd=folders[0])
    alone, beside = (scores(folder / "home") for folder in folders)
    assert len(alone) == 2 * len(BUILT_IN + GOOD) and "Traceback" not in done.stderr
    assert {place: beside[place] for place in alone} == alone
    assert all('"status": "ok"' in text for text in alone.values())


def test_a_worker_that_ran_a_plugin_serves_that_plugin_alone():
    owners = [frozenset(names) for names in ((), "a", "b", ("a", "b"), (), "a", "b", ())]
    jobs = [Job(os.getpid, (), 60.0, number, some) for number, some in enumerate(owners)]
    with Pool(1) as pool:
        ran = {number: outcome.result for number, outcome in pool.run(jobs)}
        # Built-in code shares a worker, which then serves a plug-in, and each of these its own.
        assert ran[0] == ran[4] == ran[7] and ran[1] == ran[5] and ran[2] == ran[6]
        assert len({ran[0], ran[1]}) == 1 and len({ran[1], ran[2], ran[3]}) == 3
        assert pool.call(60.0, os.getpid) not in ran.values()
        assert len(pool.idle) == 1
