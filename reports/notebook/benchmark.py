"""`pudle.benchmark`: from problems to results in one call, for notebooks and scripts."""

from __future__ import annotations

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
from pudle.measuring.case import Case, slug
from pudle.measuring.experiment import ProgressCallback, silent
from pudle.measuring.locking import locked
from pudle.measuring.provenance import NoRepository, installed_commit, repository, results_home
from pudle.measuring.run import begin
from pudle.measuring.runner import fill, plan, plan_costs
from pudle.measuring.selection import Selection, select
from pudle.measuring.store import Store
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
    of: str = ""
    number: int = 0
    seed: int = 0

    name = "given"

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", type(self.given).__name__)
        object.__setattr__(self, "number", id(self.given))

    @property
    def losses(self) -> tuple[str, ...]:  # type: ignore[override]
        """The loss of the problem."""
        loss = getattr(self.given, "loss", None)
        return (loss if isinstance(loss, str) else "own",)

    def problem(
        self,
        loss: str = "",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Problem:
        """Return the problem in its own precision, if it lies on the device and has the loss."""
        if loss and loss not in self.losses:
            raise UnsupportedProblem(
                f"{self.of} has the loss {self.losses[0]}, not {loss}: make another problem with it"
            )
        if self.given.theta.device.type != torch.device(device).type:
            raise InvalidArgument(
                f"{self.of} lies on {self.given.theta.device}, not on {device}: move its tensors"
                " there"
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
    held: dict[tuple[str, str], Any] = {}
    notes: list[str] = []
    taken = [_spec("algorithms", each, Algorithm, held, notes) for each in _listed(algorithms)]
    named = [
        _spec("estimators", each, GradientEstimator, held, notes) for each in _listed(estimators)
    ]
    given = problems if isinstance(problems, Mapping) else dict(enumerate(_listed(problems)))
    if not given:
        raise InvalidArgument(
            "problems: there is none; give a dataset such as 'sparse_gaussian', or a problem"
        )
    datasets = []
    for name, each in given.items():
        made = GivenProblem(each) if isinstance(each, Problem) else each
        spec = _spec("datasets", made, Dataset, held, notes)
        datasets.append((name if given is problems else "", spec))
    place = (Path(home) if home else results_home()).resolve()
    axes: dict[str, Any] = {"estimators": named, "only": True, "losses": losses, "home": place}
    axes |= {"depths": depths, "seeds": seeds, "timeout": timeout, "device": device}
    with holding(held), contextlib.ExitStack() as stack:
        chosen = [_selection(profile, name, spec, taken, **axes) for name, spec in datasets]
        cases = [case for selection in chosen for case in selection.cases]
        if len({case.name for case in cases}) < len(cases):
            raise InvalidArgument(
                "problems: two have one name; give different ones as a mapping from names"
            )
        if notes:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pudle-")))
        show = stack.enter_context(progress_line()) if progress else silent
        _measure(replace(chosen[0], cases=tuple(cases)), place / profile, costs, show)
        folder = None if notes else place / profile
        return BenchmarkResults(load(place, profile), folder, tuple(notes))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _spec(
    group: str, thing: Any, kind: type, held: dict[tuple[str, str], Any], notes: list[str]
) -> str:
    """Return the spec of a thing, which `held` then has if it is an object; `notes` say what cannot
    be kept.
    """
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
        # What its spec makes as well can be kept in the store.
        if getattr(names, f"make_{group.removesuffix('s')}")(spec) == thing:
            return spec
    if held.get((group, spec), thing) is not thing:
        raise InvalidArgument(
            f"{group}: two different things are called {spec}: give one of them another name"
        )
    held[group, spec] = thing
    notes.append(f"Measured in memory only: no spec makes {spec}.")
    return spec


def _selection(
    profile: str, name: str, dataset: str, algorithms: Iterable[str], **axes: Any
) -> Selection:
    """Return what `pudle run` with these options selects on one dataset, under the name that the
    caller gives it.
    """
    made: Any = names.make_dataset(dataset)
    chosen = select(
        names.list_profiles()[profile], datasets=[dataset], algorithms=algorithms, **axes
    )

    def named(case: Case) -> Case:
        # One problem is the same whatever the seed.
        case = replace(case, seeds=case.seeds[:1]) if isinstance(made, GivenProblem) else case
        return replace(case, name=f"{name}-{slug(case.algorithm)}-{case.loss}") if name else case

    return replace(
        chosen,
        cases=tuple(map(named, chosen.cases)),
        torch_depths=(),
        windows=(),
        jacobian_error=False,
    )


def _measure(selection: Selection, folder: Path, costs: bool, show: ProgressCallback) -> None:
    """Fill the store with what is missing, in this process: others could not make the objects that
    take part.
    """
    commit, dirty = "", False
    with contextlib.suppress(NoRepository):
        commit, dirty = installed_commit(repository(Path.cwd()))
    store = Store(folder / "store", selection.profile, selection.device, commit, dirty)
    with locked(folder, "benchmark"), single_thread():
        tasks = begin(folder, store, selection)
        fill(plan(tasks), executor=Here(), progress=show)
        if costs:
            fill(plan_costs(tasks), executor=Here(), progress=show)
