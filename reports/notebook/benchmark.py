"""`pudle.benchmark`: from problems to results in one call, for notebooks and scripts, which show
them.
"""

import contextlib
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from markupsafe import escape

from pudle import names, text
from pudle.answers import Requirement
from pudle.data import Dataset
from pudle.errors import InvalidArgument, SpecError, UnsupportedProblem
from pudle.files import write_atomically
from pudle.measuring.case import slug
from pudle.measuring.experiment import silent
from pudle.measuring.provenance import NoRepository, installed_commit, repository, results_home
from pudle.measuring.run import begin, fill, plan, plan_costs
from pudle.measuring.selection import select
from pudle.measuring.store import Store, locked
from pudle.names import holding
from pudle.problems import Problem
from pudle.reports.answers import answers
from pudle.reports.load import Results, load
from pudle.reports.tables import some
from pudle.terminal import progress_line
from pudle.threads import single_thread
from pudle.validation import check_integer, check_positive
from pudle.workers import Here

ESTIMATORS = ("alternating", "analytic", "backprop", "truncated(window=10)")
DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200)


class Answers(pd.DataFrame):
    """A table of answers that is printed whole, however wide it is."""

    def __repr__(self) -> str:
        return self.to_string(index=False, float_format="{:.4g}".format, na_rep=text.DASH)


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
        """The tidy table: one row per case, target, estimator, depth, seed and metric;
        docs/schema.md has its columns.
        """
        return self.results.frame

    def answers(
        self,
        error: float | None = None,
        seconds: float = math.inf,
        memory: float = math.inf,
        algorithm: str = "",
    ) -> Answers:
        """Return which algorithm and estimator to use for each problem, or which estimator with one
        algorithm, within a relative error, a time (s) and a memory (bytes), as the report does.

        It is the fastest one that reaches the error or, without an `error`, the most accurate one.
        Columns are ``problem``, ``algorithm``, ``estimator`` (empty where nothing was measured),
        whether the error is ``reached`` (otherwise it is the closest), ``depth``, ``error``,
        ``seconds`` and ``memory_bytes``; where an algorithm cannot be differentiated, then the same
        of the best other one, such as ``unrolled_seconds``. An error holds on every seed at its
        depth, which was measured.
        """
        rows = []
        for row in answers(self.results, Requirement(error, seconds, memory), algorithm):
            beside = row.unrolled.values if self.results.solvers else {}
            beside = {f"unrolled_{name}": value for name, value in beside.items()}
            rows.append({"problem": row.cells["problem"]} | row.best.values | beside)
        return Answers(rows)

    def plot(self, metric: str = "relative_error", **options: Any) -> Any:
        """Draw a metric against depth, with a panel per case, and return the axes.

        The line is the median over the seeds, the band reaches from the least to the greatest.
        `options` go to `seaborn.relplot`.
        """
        import seaborn

        measured = self.table["status"].eq("ok") & self.table["metric"].eq(metric)
        rows = self.table[measured].dropna(subset=["value"])
        if rows.empty:
            choices = ", ".join(self.table["metric"].unique())
            raise InvalidArgument(f"metric={metric!r} was not measured: choose from {choices}")
        rows = rows.assign(case=rows["case"].map(self.results.labels))
        rows = rows.astype({"depth": float, "seed": float}).rename(columns={"value": metric})
        axes = seaborn.relplot(
            rows,
            **dict(x="depth", y=metric, hue="estimator", col="case", col_wrap=3, kind="line")
            | dict(estimator="median", errorbar=("pi", 100), marker="o")
            | options,
        )
        axes.set(yscale="log")
        axes.set_titles("{col_name}", parse_math=False)
        return axes.axes

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the page that `pudle report` writes, and return its path."""
        from pudle.reports.page.page import html
        from pudle.reports.report import Report

        path = Path(path)
        write_atomically(path, html({self.results.profile: Report(self.results)}))
        return path

    @property
    def _errors(self) -> pd.DataFrame:
        """The errors at the deepest depth, one row per case and one column per estimator."""
        rows = {
            self.results.labels[case]: {
                each.estimator: spread[-1, 1]
                for each in measured
                if len(spread := each.errors.spread)
            }
            for case, measured in self.results.measured.items()
        }
        return pd.DataFrame(rows, index=self.results.estimators).T.map(text.number)

    @property
    def _remarks(self) -> list[str]:
        """Why estimators have no number on a case, one line per reason, and what is not kept."""
        rows = self.table[self.table["metric"] == "relative_error"]
        without = rows[rows.groupby(["case", "estimator"])["value"].transform("count") == 0]
        remarks = []
        for (status, reason), part in without.groupby(["status", "reason"], sort=False):
            cases = [self.results.labels[case] for case in part["case"].unique()]
            names = some(part["estimator"].unique().tolist())
            remarks.append(f"{names} on {some(cases)}: {status}: {reason}")
        return [*remarks, *self.notes]

    @property
    def _scope(self) -> str:
        kept = "in memory only" if self.folder is None else f"kept in {self.folder}"
        counts = {"estimator": len(self.results.estimators), "case": len(self.results.cases)}
        counts |= {name: self.table[name].nunique() for name in ("depth", "seed")}
        counted = ", ".join(text.count(number, name) for name, number in counts.items())
        return f"{counted}; {kept}"

    def __repr__(self) -> str:
        lines = [f"BenchmarkResults: {self._scope}", self._errors.to_string(), *self._remarks]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        remarks = "".join(f"<p>{escape(remark)}</p>" for remark in self._remarks)
        what = f"{self._scope}. Median relative error of the gradient at the largest depth:"
        return f"<p>{escape(what)}</p>{self._errors.to_html()}{remarks}"


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
    axes = {"only": True, "losses": losses, "home": place, "depths": depths}
    axes |= {"seeds": seeds, "timeout": timeout, "device": device}
    for group, things in (("algorithms", algorithms), ("estimators", estimators)):
        axes[group] = [_spec(group, each, objects) for each in _listed(things)]
    named = isinstance(problems, Mapping)
    given = problems if named else dict(enumerate(_listed(problems)))
    cases = []
    with contextlib.ExitStack() as stack:
        for name, each in given.items():
            if single := isinstance(each, Problem):
                loss = getattr(each, "loss", None)
                losses_of = (loss if isinstance(loss, str) else "own",)
                each = GivenProblem(each, losses_of, type(each).__name__, id(each))
            axes["datasets"] = [_spec("datasets", each, objects)]
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


def _spec(group: str, thing: Any, objects: dict[tuple[str, str], Any]) -> str:
    """Return the spec of a thing; `objects` then has it if no spec makes it."""
    if isinstance(thing, str):
        return thing
    kind = names.KINDS[group].base_class()
    if not isinstance(thing, kind) or not hasattr(thing, "name"):
        what = "problems" if group == "datasets" else group
        raise InvalidArgument(
            f"{what}: {thing!r:.60} is neither a spec nor a {kind.__name__} with a name: give one,"
            " or a list of them"
        )
    spec = names.text(thing)
    with contextlib.suppress(SpecError):
        if names.make(group, spec) == thing:
            return spec
    if objects.setdefault((group, spec), thing) is not thing:
        raise InvalidArgument(
            f"{group}: two different things are called {spec}: give one of them another name"
        )
    return spec
