"""`pudle.benchmark`: from problems to results in one call, for notebooks and scripts, which show
them.
"""

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from markupsafe import escape

from pudle import names, text
from pudle.answers import Requirement
from pudle.data import GivenProblems
from pudle.errors import InvalidArgument, SpecError
from pudle.files import temporary_folder, write_atomically
from pudle.measuring.case import Case
from pudle.measuring.execution import by_reason, store_of
from pudle.measuring.experiment import silent
from pudle.measuring.naming import slug, word_of
from pudle.measuring.options import Options
from pudle.measuring.provenance import results_home
from pudle.measuring.run import Run
from pudle.measuring.selection import Selection, select
from pudle.measuring.store import locked
from pudle.problems import Problem
from pudle.reports.answers import answers
from pudle.reports.load import Results, load
from pudle.reports.tables import scope
from pudle.terminal import progress_line
from pudle.threads import single_thread
from pudle.validation import check_integer, check_positive
from pudle.workers import InProcess

T = TypeVar("T")
ESTIMATORS = ("alternating", "analytic", "backprop", "truncated(window=10)")
DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200)


class Answers(pd.DataFrame):  # type: ignore[misc]  # pandas states no types
    """A table of answers that is printed whole, however wide it is."""

    def __repr__(self) -> str:
        return str(self.to_string(index=False, float_format="{:.4g}".format, na_rep=text.DASH))


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
            rows.append({"problem": row.cells["problem"].text} | row.best.values | beside)
        return Answers(rows)

    def plot(self, metric: str = "relative_error", **options: Any) -> Any:
        """Draw a metric against depth, with a panel per case, and return the axes.

        The line is the median over the seeds, the band reaches from the least to the greatest.
        `options` go to `seaborn.relplot`. InvalidArgument says that the metric was not measured.
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
        """Write the page that `pudle report` writes, to the path, whose folder is made if missing,
        and return the path.
        """
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
                source.estimator: spread[-1, 1]
                for source in measured
                if len(spread := source.errors.spread)
            }
            for case, measured in self.results.measured.items()
        }
        return pd.DataFrame(rows, index=self.results.estimators).T.map(text.number)

    @property
    def _remarks(self) -> list[str]:
        """Why estimators have no number on a case, one line per reason, and what is not kept."""
        without = (
            (
                f"{record.estimator} on {self.results.labels[record.case.name]}",
                f"{record.status}: {record.reason}",
            )
            for record in self.results.records
            if all(row.relative_error is None for row in record.scores)
        )
        return [*by_reason(without), *self.notes]

    @property
    def _scope(self) -> str:
        location = "in memory only" if self.folder is None else f"in {self.folder}"
        return f"{scope(self.results)} Kept {location}."

    def __repr__(self) -> str:
        lines = [f"BenchmarkResults: {self._scope}", self._errors.to_string(), *self._remarks]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heading = f"{self._scope} Median relative error of the gradient at the largest depth:"
        first, *remarks = (f"<p>{escape(line)}</p>" for line in (heading, *self._remarks))
        return "".join([first, self._errors.to_html(), *remarks])


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
    options = Options(
        estimators=_specs("estimators", estimators),
        only=True,
        algorithms=_specs("algorithms", algorithms),
        losses=_sequence("losses", losses),
        depths=tuple(check_integer("depths", depth, 0) for depth in _sequence("depths", depths)),
        seeds=check_integer("seeds", seeds, 1),
        device=device,
        timeout=check_positive("timeout", timeout),
    )
    place = (Path(home) if home else results_home()).resolve()
    selection = _selection(problems, names.list_profiles()[profile], options, place)
    used = *options.estimators, *options.algorithms, *(case.dataset for case in selection.cases)
    unnamed = [spec for spec in _distinct(used) if not _is_made_by(spec)]
    with contextlib.ExitStack() as stack:
        if unnamed:
            place = stack.enter_context(temporary_folder())
        store, _ = store_of(selection, place)
        folder = store.folder.parent
        show = stack.enter_context(progress_line()) if progress else silent
        # In this process: others could not make the objects that take part.
        with locked(folder, "benchmark"), single_thread():
            run = Run(selection, store)
            run.begin()
            run.fill(InProcess(), costs=costs, progress=show)
        notes = (f"Measured in memory only: no spec makes {word_of(spec)}." for spec in unnamed)
        return BenchmarkResults(load(place, profile), None if unnamed else folder, tuple(notes))


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _sequence(name: str, value: Sequence[T]) -> tuple[T, ...]:
    """Return the values as a tuple, or refuse, by InvalidArgument, a text or what is no sequence,
    as the argument `name`.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidArgument(f"{name}={value!r} is no sequence: give one, such as [{value!r}]")
    return tuple(value)


def _specs(group: str, objects: object) -> tuple[names.Spec[Any], ...]:
    """Return the specs of objects, each with its object, or refuse what has no spec."""
    return tuple(_spec(group, candidate) for candidate in _listed(objects))


def _spec(group: str, candidate: object) -> names.Spec[Any]:
    """Return the canonical spec of an object, or of what a spec names; InvalidArgument refuses
    anything else.
    """
    if isinstance(candidate, str):
        return names.canonical(group, candidate)
    kind = names.KINDS[group].base_class()
    if not isinstance(candidate, kind) or not hasattr(candidate, "name"):
        argument = "problems" if group == "datasets" else group
        raise InvalidArgument(
            f"{argument}: {candidate!r:.60} is neither a spec nor a {kind.__name__} with a name:"
            " give one, or a list of them"
        )
    return names.canonical(group, candidate)


def _selection(problems: object, like: Selection, options: Options, home: Path) -> Selection:
    """Return the selection of all problems, with the cases that options make of each.

    Cases have the names that a mapping gives their problems, and a `Problem` has one seed.
    InvalidArgument refuses a problem on another device, two cases of one name, and no problem at
    all. Datasets are drawn once.
    """
    has_names = isinstance(problems, Mapping)
    problems_by_name = (
        problems if isinstance(problems, Mapping) else dict(enumerate(_listed(problems)))
    )
    selection, cases = like, dict[str, Case]()
    for name, problem in problems_by_name.items():
        if single := isinstance(problem, Problem):
            if (place := problem.theta.device).type != torch.device(options.device).type:
                raise InvalidArgument(
                    f"problems: {type(problem).__name__} lies on {place}, not on {options.device}:"
                    " move its tensors there"
                )
            problem = GivenProblems.of(problem)
        selection = select(like, replace(options, datasets=_specs("datasets", problem)), home)
        for case in selection.cases:
            case_name = f"{name}-{slug(case.algorithm)}-{case.loss}" if has_names else case.name
            if case_name in cases:
                raise InvalidArgument(
                    "problems: two have one name; give different ones as a mapping from names"
                )
            # One problem is the same whatever the seed.
            cases[case_name] = replace(
                case, name=case_name, seeds=case.seeds[: 1 if single else None]
            )
    if not cases:
        raise InvalidArgument(
            "problems: there is none; give a dataset such as 'sparse_gaussian', or a problem"
        )
    return replace(selection, cases=tuple(cases.values()), torch_depths=())


def _distinct(specs: Iterable[str]) -> list[names.Spec[Any]]:
    """Return each spec once; InvalidArgument refuses two different things that have one spec."""
    known_specs: dict[tuple[str, str], names.Spec[Any]] = {}
    for spec in specs:
        assert isinstance(spec, names.Spec), "arguments and cases hold specs with their objects"
        known = known_specs.setdefault((spec.group, spec), spec)
        if known.made is not spec.made and known.made != spec.made:
            raise InvalidArgument(
                f"{spec.group}: two different things are called {spec}: give one of them another"
                " name"
            )
    return [*known_specs.values()]


def _is_made_by(spec: names.Spec[Any]) -> bool:
    """Tell whether the text of a spec makes an object equal to its own, so that another process
    could make it.
    """
    with contextlib.suppress(SpecError):
        return bool(names.make(spec.group, str(spec)) == spec.made)
    return False
