"""`pudle.benchmark`: from problems to results in one call, for notebooks and scripts."""

import contextlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pudle import names
from pudle.algorithms import Algorithm
from pudle.data import Dataset
from pudle.errors import InvalidArgument, SpecError, UnsupportedProblem
from pudle.estimator import GradientEstimator
from pudle.measuring.case import slug
from pudle.measuring.experiment import silent
from pudle.measuring.provenance import NoRepository, installed_commit, repository, results_home
from pudle.measuring.run import begin, fill, plan, plan_costs
from pudle.measuring.selection import select
from pudle.measuring.store import Store, locked
from pudle.names import holding
from pudle.problems import Problem
from pudle.reports.load import load
from pudle.reports.notebook.results import BenchmarkResults
from pudle.terminal import progress_line
from pudle.threads import single_thread
from pudle.validation import check_integer, check_positive
from pudle.workers import Here

ESTIMATORS = ("alternating", "analytic", "backprop", "truncated(window=10)")
DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True, eq=False)
class GivenProblem(Dataset):
    """A dataset of one problem, whatever the seed, named by its class and a number."""

    given: Problem = field(repr=False, metadata={"spec": False})
    losses: Any = field(metadata={"spec": False})
    of: str
    number: int
    seed: int = 0

    name = "given"

    def problem(
        self, loss: str = "", *, dtype: Any = torch.float64, device: Any = "cpu"
    ) -> Problem:
        """Return the problem in its own precision, if it lies on the device and has the loss."""
        if loss and loss not in self.losses:
            raise UnsupportedProblem(
                f"{self.of} has the loss {self.losses[0]}, not {loss}: make another problem with it"
            )
        if (place := self.given.theta.device).type != torch.device(device).type:
            raise InvalidArgument(
                f"{self.of} lies on {place}, not on {device}: move its tensors there"
            )
        return self.given


def benchmark(
    problems: Any,
    algorithms: Any = (),
    estimators: Any = ESTIMATORS,
    *,
    depths: Sequence[int] = DEPTHS,
    seeds: int = 3,
    losses: Sequence[str] = (),
    costs: bool = True,
    timeout: float = 600.0,
    profile: str = "quick",
    home: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> BenchmarkResults:
    """Measure estimators on problems, and return the results.

    What can be named by its content is kept in the store of the command line: a later call, or
    `pudle run` with the same selection, computes nothing that is there, and `pudle report` shows
    the last one. Where something cannot, such as a class of a notebook, the whole call is measured
    in memory only, and the results say why. Everything runs in this process and in copies of it, in
    one thread; an estimator that takes too long is ended at its next depth.

    Parameters
    ----------
    problems : str, Dataset, Problem, a list of these, or a mapping from names to these
        A dataset, or its spec, has a problem for each seed. A `Problem` is one problem, with its
        own loss.
    algorithms, estimators : str, object, or a list of these
        Specs or objects. By default the algorithm is the problem's own iteration for a
        `FixedPoint`, and ISTA for others.
    depths : sequence of int
    seeds : int
        Number of seeds.
    losses : sequence of str
        Outer losses; by default all that a problem has. What does not fit is ``unsupported`` in the
        table.
    costs : bool
        Whether to measure time and memory as well.
    timeout : float
        Seconds that one estimator may take on one case.
    profile, home
        Where the results are kept: the folder of that profile in ``.asv`` of the repository, or in
        `home`.
    device : {"cpu", "cuda"}
    progress : bool
        Whether to show progress.

    Returns
    -------
    BenchmarkResults

    Raises
    ------
    InvalidArgument
        If something is neither a spec nor an object of the right kind, if two things have one name,
        or a number is out of range.
    """
    for name, value in (("depths", depths), ("losses", losses)):
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise InvalidArgument(f"{name}={value!r} is no sequence: give one, such as [{value!r}]")
    depths = [check_integer("depths", depth, 0) for depth in depths]
    check_integer("seeds", seeds, 1)
    check_positive("timeout", timeout)
    objects: dict[tuple[str, str], Any] = {}
    place = (Path(home) if home else results_home()).resolve()
    axes: dict[str, Any] = {"only": True, "losses": losses, "home": place}
    for group, things, kind in (
        ("algorithms", algorithms, Algorithm),
        ("estimators", estimators, GradientEstimator),
    ):
        axes[group] = [_spec(group, each, kind, objects) for each in _listed(things)]
    axes |= {"depths": depths, "seeds": seeds, "timeout": timeout, "device": device}
    named = isinstance(problems, Mapping)
    given = problems if named else dict(enumerate(_listed(problems)))
    cases = []
    with contextlib.ExitStack() as stack:
        for name, each in given.items():
            if single := isinstance(each, Problem):
                loss = getattr(each, "loss", None)
                losses_of = (loss if isinstance(loss, str) else "own",)
                each = GivenProblem(each, losses_of, type(each).__name__, id(each))
            axes["datasets"] = [_spec("datasets", each, Dataset, objects)]
            with holding(objects):
                selection = select(names.list_profiles()[profile], **axes)
            for case in selection.cases:
                own = f"{name}-{slug(case.algorithm)}-{case.loss}" if named else case.name
                # One problem is the same whatever the seed.
                seen = case.seeds[: 1 if single else None]
                cases.append(replace(case, name=own, seeds=seen))
        if not cases:
            raise InvalidArgument(
                "problems: there is none; give a dataset such as 'sparse_gaussian', or a problem"
            )
        if len({case.name for case in cases}) < len(cases):
            raise InvalidArgument(
                "problems: two have one name; give different ones as a mapping from names"
            )
        selection = replace(
            selection, cases=tuple(cases), torch_depths=(), windows=(), jacobian_error=False
        )
        commit, dirty = "", False
        with contextlib.suppress(NoRepository):
            commit, dirty = installed_commit(repository(Path.cwd()))
        if objects:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pudle-")))
        folder = place / profile
        store = Store(folder / "store", profile, device, commit, dirty)
        show = stack.enter_context(progress_line()) if progress else silent
        # In this process: others could not make the objects that take part.
        with holding(objects), locked(folder, "benchmark"), single_thread():
            tasks = begin(store, selection)
            fill(plan(tasks), executor=Here(), progress=show)
            if costs:
                fill(plan_costs(tasks), executor=Here(), progress=show)
        notes = (f"Measured in memory only: no spec makes {spec}." for _, spec in objects)
        return BenchmarkResults(load(place, profile), None if objects else folder, tuple(notes))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _spec(group: str, thing: Any, kind: type, objects: dict[tuple[str, str], Any]) -> str:
    """Return the spec of a thing; `objects` then has it if no spec makes it."""
    if isinstance(thing, str):
        return thing
    if not isinstance(thing, kind) or not hasattr(thing, "name"):
        what = "problems" if group == "datasets" else group
        raise InvalidArgument(
            f"{what}: {thing!r:.60} is neither a spec nor a {kind.__name__} with a name: give one,"
            " or a list of them"
        )
    spec = names.text(thing)
    with contextlib.suppress(SpecError):
        if getattr(names, f"make_{group.removesuffix('s')}")(spec) == thing:
            return spec
    if objects.setdefault((group, spec), thing) is not thing:
        raise InvalidArgument(
            f"{group}: two different things are called {spec}: give one of them another name"
        )
    return spec
