"""`pudle.benchmark`: from problems to results in one call, for notebooks and scripts."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pudle import registry, specs
from pudle.algorithms import Algorithm
from pudle.data import Dataset
from pudle.errors import InvalidArgument
from pudle.estimator import GradientEstimator
from pudle.files import write_atomically
from pudle.held import holding
from pudle.measuring.case import Case, slug, spec_slug
from pudle.measuring.executors import ThisProcess
from pudle.measuring.experiment import ProgressCallback
from pudle.measuring.given import Given, NotAddressable, address, why_unstorable
from pudle.measuring.locking import locked
from pudle.measuring.provenance import NoRepository, commit_of, repository, results_home
from pudle.measuring.run import remember
from pudle.measuring.runner import fill, plan, plan_costs
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.measuring.survey import survey
from pudle.problems import Problem
from pudle.references.certified import solve
from pudle.reports import text
from pudle.reports.costs import points
from pudle.reports.load import Results, load
from pudle.terminal import progress_bar

ESTIMATORS = ("alternating", "analytic", "backprop", "truncated(window=10)")
COSTS = ("memory_bytes", "seconds")
DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True, eq=False)
class BenchmarkResults:
    """Results of `pudle.benchmark`.

    Attributes
    ----------
    results : pudle.reports.load.Results
        The results as reports read them.
    folder : Path or None
        Where they are kept; None if they are in memory only.
    notes : tuple of str
        What is not kept, and why.
    """

    results: Results
    folder: Path | None
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The tidy table: one row per case, target, estimator, depth, seed and metric; docs/schema.md has its columns."""
        return self.results.frame

    def answers(self, error: float | None = None, seconds: float | None = None, memory: float | None = None) -> pd.DataFrame:
        """Return which estimator to use on each case, within a relative error, a time (s) and a memory (bytes).

        It is the fastest one with the error in the median seed or, without an `error`, the most accurate one. Columns are
        ``case``, ``estimator`` (empty where there is none), ``depth``, ``error``, ``seconds`` and ``memory_bytes``.
        """
        return pd.DataFrame([self._answer(case, error, seconds, memory) for case in self.results.cases])

    def _answer(self, case: str, error: float | None, seconds: float | None, memory: float | None) -> dict[str, Any]:
        # An unknown cost is NaN, which is within no limit.
        limits = {"error": error, "seconds": seconds, "memory": memory}
        given = {name: limit for name, limit in limits.items() if limit is not None}
        found = [point for point in points(self.results, case) if all(getattr(point, name) <= given[name] for name in given)]
        if not found:
            return {"case": case, "estimator": ""}
        # Without known times, fewer layers count.
        best = min(
            found,
            key=lambda point: (point.error if error is None else np.nan_to_num(point.seconds, nan=np.inf), point.depth),
        )
        costs = {"seconds": best.seconds, "memory_bytes": best.memory}
        return {"case": case, "estimator": best.estimator, "depth": best.depth, "error": best.error, **costs}

    def plot(self, metric: str = "relative_error", **options: Any) -> Any:
        """Draw a metric against depth, with a panel per case, and return the axes.

        The line is the median over the seeds, the band reaches from the least to the greatest. `options` go to
        `seaborn.relplot`.
        """
        import seaborn

        found = self.table[(self.table["metric"] == metric) & self.table["value"].notna()]
        if found.empty:
            known = ", ".join(self.table["metric"].unique())
            raise InvalidArgument(f"metric={metric!r} was not measured: choose from {known}")
        drawn = {"kind": "line", "estimator": "median", "errorbar": ("pi", 100), "marker": "o", "col_wrap": 3} | options
        found = found.astype({"depth": float, "seed": float}).rename(columns={"value": metric})
        grid = seaborn.relplot(found, x="depth", y=metric, hue="estimator", col="case", **drawn)
        grid.set(yscale="log")
        grid.set_titles("{col_name}")
        return grid.axes

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the page that `pudle report` writes, and return its path."""
        from pudle.reports.living import Page
        from pudle.reports.page import Report

        write_atomically(Path(path), Page([Report.of(self.results)], [self.results.profile]).html())
        return Path(path)

    def _shown(self) -> pd.DataFrame:
        """Return the errors at the deepest depth, one row per case and one column per estimator."""
        found = self.table[self.table["metric"] == "relative_error"]
        deepest = found[found["depth"] == found.groupby("case")["depth"].transform("max")]
        value = deepest.pivot_table(index="case", columns="estimator", values="value", aggfunc="median", sort=False)
        return value.map(text.number).reindex(columns=list(self.results.estimators)).fillna(text.DASH)

    def _what(self) -> str:
        kept = "in memory only" if self.folder is None else f"kept in {self.folder}"
        counts = {"estimators": len(self.results.estimators), "cases": len(self.results.cases)}
        counts |= {f"{name}s": self.table[name].nunique() for name in ("depth", "seed")}
        return f"{', '.join(f'{count} {name}' for name, count in counts.items())}; {kept}"

    def __repr__(self) -> str:
        return "\n".join([f"BenchmarkResults: {self._what()}", self._shown().to_string(), *self.notes])

    def _repr_html_(self) -> str:
        from markupsafe import escape

        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        what = escape(f"{self._what()}. Median relative error of the gradient at the largest depth:")
        return f"<p>{what}</p>{self._shown().to_html()}{notes}"


def benchmark(
    problems: Any,
    algorithms: Any = "ista",
    estimators: Any = ESTIMATORS,
    *,
    depths: Sequence[int] = DEPTHS,
    seeds: int | Sequence[int] = 3,
    losses: Sequence[str] = (),
    costs: bool = True,
    timeout: float = 600.0,
    profile: str = "quick",
    home: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> BenchmarkResults:
    """Measure estimators on problems, and return the results.

    What can be named by its content is kept in the store of the command line: a later call, or `pudle run` with the same
    selection, computes nothing that is there, and `pudle report` shows the last one. What cannot, such as a class of a
    notebook, is measured in memory only, and the results say so. Everything runs in this process and in copies of it, in one
    thread; an estimator that takes too long is ended at its next depth.

    Parameters
    ----------
    problems : str, Dataset, Problem, a list of these, or a mapping from names to these
        A dataset, or its spec, has a problem for each seed. A `Problem` is one problem, with its own loss.
    algorithms, estimators : str, object, or a list of these
        Specs or objects.
    depths : sequence of int
    seeds : int or sequence of int
        Seeds, or their number.
    losses : sequence of str
        Outer losses of datasets; by default all that they have.
    costs : bool
        Whether to measure time and memory as well.
    timeout : float
        Seconds that one estimator may take on one case.
    profile, home
        Where the results are kept: the folder of that profile in ``.asv`` of the repository, or in `home`.
    device : {"cpu", "cuda"}
    progress : bool
        Whether to show progress.

    Returns
    -------
    BenchmarkResults

    Raises
    ------
    InvalidArgument
        If something is neither a spec nor an object of the right kind, or two things have one name.
    """
    held: dict[tuple[str, str], Any] = {}
    notes: list[str] = []
    taken = [_spec("algorithms", each, Algorithm, held, notes) for each in _listed(algorithms)]
    named = [_spec("estimators", each, GradientEstimator, held, notes) for each in _listed(estimators)]
    datasets = [(name, _spec("datasets", _as_dataset(each), Dataset, held, notes)) for name, each in _named(problems)]
    place = Path(home) if home else results_home()
    drawn = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    with holding(held), contextlib.ExitStack() as stack:
        cases = [_case(name or _name(spec, place), spec, algorithm, loss, drawn, tuple(depths))
                 for (name, spec), algorithm in itertools.product(datasets, taken)
                 for loss in _losses(spec, losses)]  # fmt: skip
        if len({case.name for case in cases}) < len(cases):
            raise InvalidArgument("two problems have one name: give problems as a mapping from names")
        chosen = tuple(dict.fromkeys(named))
        selection = Selection(profile, tuple(cases), chosen, tuple(depths), tuple(depths), timeout, COSTS, device)
        kept = not notes
        at = place.resolve() if kept else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pudle-")))
        stack.enter_context(_one_thread())
        _measure(selection, at / profile, costs, progress)
        return BenchmarkResults(load(at, profile), at / profile if kept else None, tuple(notes))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _named(problems: Any) -> list[tuple[str, Any]]:
    return list(problems.items()) if isinstance(problems, Mapping) else [("", each) for each in _listed(problems)]


def _as_dataset(problem: Any) -> Any:
    """Return a dataset or a spec as it is, and a problem as a dataset of one."""
    if not isinstance(problem, Problem):
        return problem
    try:
        digest = address(problem)
    except NotAddressable:
        digest = f"{id(problem):x}"
    return Given(problem, f"{type(problem).__name__}_{digest[:8]}")


def _spec(group: str, thing: Any, kind: type, held: dict[tuple[str, str], Any], notes: list[str]) -> str:
    """Return the spec of a thing, which `held` then has if it is an object; `notes` say what cannot be kept."""
    if isinstance(thing, str):
        return specs.text(getattr(registry, f"make_{group[:-1]}")(thing))
    if not isinstance(thing, kind):
        what = "problems" if group == "datasets" else group
        raise InvalidArgument(f"{what}: {thing!r:.60} is neither a spec nor a {kind.__name__}: give one, or a list of them")
    spec = specs.text(thing) if hasattr(thing, "name") else type(thing).__name__
    if held.get((group, spec), thing) is not thing:
        raise InvalidArgument(f"{group}: two different things are called {spec}: give one of them another name")
    held[group, spec] = thing
    if reason := why_unstorable(group, thing):
        notes.append(f"Measured in memory only: {reason}.")
    return spec


def _losses(spec: str, losses: Sequence[str]) -> Iterable[str]:
    known = registry.make_dataset(spec).losses
    wanted = [loss for loss in losses if loss in known]
    if losses and not wanted:
        raise InvalidArgument(f"losses={list(losses)}: {spec} has {', '.join(known)}")
    return wanted or known


def _name(spec: str, place: Path) -> str:
    """Return what cases on a dataset are called."""
    return spec_slug(spec, place, specs.path_options(registry.make_dataset(spec)))


def _case(name: str, dataset: str, algorithm: str, loss: str, seeds: tuple[int, ...], depths: tuple[int, ...]) -> Case:
    made: Any = registry.make_dataset(dataset)
    if isinstance(made, Given):
        # One problem, whatever the seed.
        seeds = (0,)
    rule = getattr(registry.make_algorithm(algorithm), "thresholding", None)
    solved = solve.dispatch(type(made.problem(loss))) is not solve.dispatch(object)
    target = "exact" if solved and (rule is None or rule.proximal) else "limit"
    return Case(f"{name}-{slug(algorithm)}-{loss}", dataset, algorithm, loss, seeds, depths, (target,))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(selection: Selection, folder: Path, costs: bool, progress: bool) -> None:
    """Fill the store with what is missing, in this process."""
    commit, dirty = "", False
    with contextlib.suppress(NoRepository):
        commit, dirty = commit_of(repository(Path.cwd()))
    store, frozen = Store(folder / "store", selection.profile, selection.device, commit, dirty), folder / "selection.json"
    with locked(folder, "benchmark"), _shown(progress) as show:
        selection.write(frozen)
        known = survey(selection, store)
        remember(folder, store, selection, known)
        # Objects that no other process could make take part.
        here = ThisProcess()
        known.update(fill(plan(selection, store, known), executor=here, progress=show))
        if costs:
            fill(plan_costs(selection, store, frozen, known), executor=here, progress=show)


@contextlib.contextmanager
def _shown(progress: bool) -> Iterator[ProgressCallback]:
    """Show a progress bar on a terminal; elsewhere, such as in a notebook, one line that is written over."""
    if not progress:
        yield lambda done, total, line: None
        return
    with progress_bar(transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int, line: str) -> None:
            bar.update(task, completed=done, total=total, description=line[:60])
            if bar.disable:
                print(f"\r{done}/{total} {line:60.60}", end="" if done < total else "\n", file=sys.stderr, flush=True)

        yield show
