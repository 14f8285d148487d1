"""Times and memories belong to scored gradients, or there is none."""

import contextlib
import dataclasses
import time

import numpy as np
import pytest
import torch
from support.paths import ROOT
from support.problems.small_problems import TINY, filled, selected, sparse_problem

import pudle
from pudle.errors import InvalidArgument
from pudle.files import write_record
from pudle.measuring.commits import script
from pudle.measuring.meters import time_calls
from pudle.measuring.results.cost import EstimateCost, Timer, require_share
from pudle.measuring.scored_path import OtherGradient, Returned, at_unseen_theta, require_scored
from pudle.measuring.store import Store
from pudle.workers import Pool

UNSCORED = ROOT / "tests" / "support" / "estimators" / "unscored.py"
#: Plug-ins that return another gradient when they are timed, and those whose work others do, with
#: an estimator that does what is left for the calling thread.
STALE = ["Ones", "ByIdentity", "ByShape", "Previous"]
ELSEWHERE = {"Threads": "backprop", "Children": "backprop", "Later": f"{UNSCORED}:Alone"}
ISTA = pudle.Ista()


def spec(name):
    return f"{UNSCORED}:{name}"


def measured(folder, *names, dtype="float64", costs=("seconds",)):
    """Measure estimators on a tiny case as a run does. With one seed, scores have one problem."""
    case = dataclasses.replace(TINY, seeds=(0,), depths=(1, 5), dtype=dtype)
    selection = selected(*names, cases=(case,), depths=(5,), costs=costs)
    store = Store(folder / "quick" / "store", "quick")
    with pytest.MonkeyPatch.context() as patch, Pool(1) as pool:
        # Without kernels there is one kind of times.
        patch.setenv("PUDLE_KERNELS", "torch")
        return filled(selection, store, pool)


def records(run, name):
    """Return the record of an estimator's scores, and those of its costs by metric."""
    (scores,) = (run.record(each) for each in run.scores if each.estimator == name)
    costs = {each.metric: run.record(each) for each in run.costs if each.estimator == name}
    return scores, costs


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_estimate_that_sweep_does_not_confirm_is_an_error_with_both_norms(tmp_path, dtype):
    run = measured(tmp_path, *map(spec, STALE), dtype=dtype)
    for name in STALE:
        scores, costs = records(run, spec(name))
        # If scores have found it, nothing was measured.
        said = scores if scores.status == "error" else costs["seconds"]
        assert said.status == "error", name
        assert "`estimate` and `sweep` return different gradients" in said.reason
        assert "relatively, with norms" in said.reason


def test_work_that_others_do_counts_or_is_refused(tmp_path):
    names = *dict.fromkeys(ELSEWHERE.values()), *map(spec, ELSEWHERE)
    run = measured(tmp_path, *names, costs=("seconds", "memory_bytes"))
    for name, base in ELSEWHERE.items():
        ordinary, said = (records(run, each)[1]["seconds"] for each in (base, spec(name)))
        assert ordinary.processors == pytest.approx(1, abs=0.2)
        assert len(ordinary.elapsed) == len(ordinary.samples)
        # If other work has the processors, threads and processes have to wait for one, and the
        # calling thread for them.
        too_many, too_few = "processors, and its share is 1", "processors and waits the rest"
        refused = said.status == "error" and (too_many in said.reason or too_few in said.reason)
        assert refused or said.value > 1.3 * ordinary.value, (name, said)
    memory = records(run, spec("Children"))[1]["memory_bytes"]
    assert memory.status == "unsupported" and "starts processes" in memory.reason


def test_a_result_that_is_kept_for_its_theta_saves_no_time(tmp_path):
    """It is right, and in a training it would never be found again."""
    names = "backprop", spec("Remembered")
    run = measured(tmp_path, *names)
    ordinary, kept = (records(run, name)[1]["seconds"] for name in names)
    assert kept.status == "ok" and kept.value > 0.8 * ordinary.value


def test_a_timer_without_copies_checks_as_well():
    cost = EstimateCost("seconds", dataclasses.replace(TINY, depths=(1, 5)), spec("Ones"), 5)
    with pytest.raises(OtherGradient):
        Timer("cpu").seconds(cost)


def test_times_of_two_commits_are_compared_with_a_fresh_process(tmp_path):
    """Both methods keep their result for the object that holds the samples."""
    name, path = spec("ByIdentity"), tmp_path / "selection.json"
    write_record(path, selected(name, cases=(TINY,)))
    with Pool(1) as pool:
        call = script.seconds, path, (TINY.name, name, 5), 3
        outcome = pool.call_for(frozenset([name]), 60.0, *call)
    assert outcome.status == "error"
    assert "`estimate` and `sweep` return different gradients" in outcome.reason


@pytest.mark.parametrize("dtype, size", [(torch.float64, 1e-6), (torch.float32, 1.2e-4)])
def test_theta_moves_by_a_small_relative_amount_in_a_random_direction(dtype, size):
    problem = sparse_problem(dtype=dtype)
    constant = problem.lipschitz_constant
    moved = [at_unseen_theta(problem, seed).theta - problem.theta for seed in range(3)]
    for change in moved:
        assert float(change.norm() / problem.theta.norm()) == pytest.approx(size, rel=0.3)
    cosines = np.corrcoef(torch.stack(moved).flatten(1))[np.triu_indices(3, 1)]
    assert np.abs(cosines).max() < 0.3
    # The step of the unrolled program stays, and a parameter that is zero moves as well.
    assert at_unseen_theta(problem, 0).lipschitz_constant == constant
    zero = problem.with_theta(torch.zeros_like(problem.theta))
    assert at_unseen_theta(zero, 0).theta.abs().max() > 0


class Noisy(pudle.GradientEstimator):
    """Draws around the gradient, the center and the width of which depend on the method."""

    name, computes = "noisy", "stochastic"

    def __init__(self, center=1.0, width=0.1):
        self.center, self.width = center, width
        self.random = np.random.default_rng(0)

    def draw(self, problem, algorithm, depth, center, width):
        estimate = pudle.make_estimator("backprop").estimate(problem, algorithm, depth)
        normal = torch.as_tensor(self.random.standard_normal(problem.theta.shape))
        gradient = estimate.gradient * (center + width * normal)
        return pudle.Estimate(gradient, estimate.codes)

    def estimate(self, problem, algorithm, depth):
        return self.draw(problem, algorithm, depth, self.center, self.width)

    def sweep(self, problem, algorithm, depths):
        for depth in depths:
            yield self.draw(problem, algorithm, depth, 1.0, 0.1)


def require(estimator, problem=None):
    """Compare an estimator's two methods at depth 5."""
    problem = problem or sparse_problem()
    returned = Returned.of(estimator.estimate(problem, ISTA, 5))

    def sweep(at):
        return next(iter(estimator.sweep(at, ISTA, [5])))

    require_scored(estimator, problem, ISTA, 5, returned, sweep)


def test_draws_are_compared_by_their_mean_and_their_spread():
    require(Noisy())
    for other in (Noisy(center=1.5), Noisy(width=1.0), Noisy(width=0.0)):
        with pytest.raises(OtherGradient, match="over 8 draws of each"):
            require(other)


class Amplifying(pudle.GradientEstimator):
    """A gradient that depends on the last digits of theta, as a breakdown of conjugate gradients
    does; `sweep` rounds otherwise, and may be wrong on top of that.
    """

    name, computes = "amplifying", "heuristic"

    def __init__(self, wrong=0.0):
        self.wrong = wrong

    def estimate(self, problem, algorithm, depth, other=0.0):
        estimate = pudle.make_estimator("backprop").estimate(problem, algorithm, depth)
        digits = torch.sin(1e17 * problem.theta.sum() + other)
        return pudle.Estimate((1 + 1e-4 * digits) * estimate.gradient, estimate.codes)

    def sweep(self, problem, algorithm, depths):
        for depth in depths:
            estimate = self.estimate(problem, algorithm, depth, other=1.0)
            yield pudle.Estimate((1 + self.wrong) * estimate.gradient, estimate.codes)


def test_rounding_that_an_estimator_amplifies_is_no_difference():
    require(Amplifying())
    with pytest.raises(OtherGradient, match=r"differ by 0\.09. relatively"):
        require(Amplifying(wrong=0.1))


@pytest.mark.parametrize(
    "processors, threads, said",
    [
        ([1.3, 1.3, 0.9], 1, "uses 1.3 processors, and its share is 1"),
        ([2.5] * 3, 2, "its share is 2"),
        ([2.3, 9.0, 2.3], 2, ""),
        ([0.1, 0.1, 1.0], 1, "waits the rest of the time"),
    ],
)
def test_the_share_of_processors_is_judged_by_the_median(processors, threads, said):
    with pytest.raises(InvalidArgument, match=said) if said else contextlib.nullcontext():
        require_share(processors, threads, "cpu")
    # On a GPU it is not the processor that computes.
    require_share(processors, threads, "cuda")


def test_a_call_that_sleeps_uses_no_processor():
    timing, *_ = time_calls(
        lambda: None, lambda _: time.sleep(0.01), lambda _: None, time.process_time
    )
    assert timing.processors < 0.2 and timing.elapsed >= 0.01
