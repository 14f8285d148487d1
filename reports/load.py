"""Read the records of a run into `Results`: tables, and the errors and costs of each estimator.

`docs/schema.md` describes the columns and metrics of the tidy table, `Results.frame`.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pudle import names, paired, text
from pudle.answers import NO_CURVE, NO_LINE, NO_ROUNDS, Curve, Line, Measured, Rounds
from pudle.errors import MissingResults, SpecError, UnreadableResult
from pudle.files import lies_at, read_each
from pudle.measuring import contents
from pudle.measuring.case import labels, problem_labels
from pudle.measuring.contents import CostRecord, Row, RunList, ScoreRecord
from pudle.measuring.scoring import ERRORS
from pudle.reports.records import ExperimentRecord

#: Metrics that are costs: measured once, for no seed and no target.
TIMES = ("seconds", "seconds_torch")
COSTS = (*TIMES, "memory_bytes")
#: Metrics that a figure's vertical axis can show, with its title.
TITLES = {
    "relative_error": "relative error of the gradient",
    "cosine_error": "1 - cosine to the reference",
    "code_error": "error of the codes",
    "support_error": "share of samples with a wrong sign",
}

#: Columns of `Results.frame` with their pandas types. It has one row per (case, target, estimator,
#: depth, seed, metric).
COLUMNS = dict.fromkeys("case dataset algorithm loss target estimator".split(), "str")
COLUMNS |= {"depth": "Int64", "seed": "Int64", "metric": "str", "value": "float64"}
COLUMNS |= dict.fromkeys("status reason commit machine profile".split(), "str")
COLUMNS["at_floor"] = "bool"
#: What `Results.records` have beside case and estimator.
CLAIMS = ("status", "reason", "computes", "consistent_for")
#: Columns of `Results.references`, numbers from ``bound`` on.
REFERENCES = (
    "case seed target status reason bound gradient_norm kkt_residual smallest_eigenvalue"
    " condition_number dual_margin smallest_amplitude zero_codes uncertified samples step rho"
).split()
#: Statuses of a measurement that broke, as opposed to a finding about an estimator.
BROKEN = (*contents.BROKEN, "missing")


@dataclass(frozen=True, eq=False)
class Results:
    """Results of one profile."""

    profile: str
    #: The tidy table; its columns are `COLUMNS`.
    frame: pd.DataFrame
    #: One row per (case, seed, target): status, reason, bound and the rest of the certificate.
    references: pd.DataFrame
    #: One mapping per selected (case, estimator), with `CLAIMS`; consistent_for has losses, or is
    #: None for all.
    records: Sequence[Row]
    #: One row per time (metric, case, estimator, depth): seconds, a tuple ``samples`` of them by
    #: round, and ``turns``, see `CostRecord`.
    timings: pd.DataFrame
    #: The selected cases by name, each with the ``problem`` that it shares with others and whether
    #: its algorithm is ``differentiable``, and the selected estimators, in their order.
    cases: Mapping[str, Row]
    estimators: tuple[str, ...]
    #: The provenances of the records, newest first.
    provenances: Sequence[Row] = ()
    #: What a reader has to know about the origin of these numbers.
    notes: Sequence[str] = ()
    #: The record of each experiment. Where there are some, there may be no cases.
    experiments: Sequence[ExperimentRecord] = ()
    #: A line for each file that is damaged and therefore left out: it names the file and the
    #: remedy.
    damaged: Sequence[str] = ()

    @cached_property
    def labels(self) -> Mapping[str, text.Cell]:
        """What tables and titles call each case, by name."""
        shown = labels(self.cases).items()
        return {name: text.Cell(label, case=name * (label != name)) for name, label in shown}

    def target(self, case: str) -> str:
        """Return the target that a case's summary is about: its first."""
        return self.cases[case]["targets"][0]

    def curve(
        self, case: str, estimator: str, metric: str = "relative_error", target: str = ""
    ) -> Curve:
        """Return the errors of an estimator on a case, by default for the case's first target."""
        return self._curves.get((metric, case, target or self.target(case), estimator), NO_CURVE)

    @cached_property
    def _curves(self) -> Mapping[Any, Curve]:
        curves = {}
        # Costs have no target, and are in no group.
        for key, every in self.numbers.groupby(["metric", "case", "target"]):
            # A seed that was scored counts for each estimator, also for one that failed on it.
            seeds = np.unique(every["seed"].to_numpy(int))
            for estimator, part in every.groupby("estimator"):
                depths, rows = np.unique(part["depth"].to_numpy(int), return_inverse=True)
                columns = np.searchsorted(seeds, part["seed"].to_numpy(int))
                values = np.full((len(depths), len(seeds)), np.nan)
                at_floor = np.zeros(values.shape, bool)
                values[rows, columns], at_floor[rows, columns] = part["value"], part["at_floor"]
                curves[*key, estimator] = Curve(depths, seeds, values, at_floor)
        return curves

    def line(self, case: str, estimator: str, cost: str) -> Line:
        """Return a cost against depth; a cost is a metric."""
        return self._lines.get((cost, case, estimator), NO_LINE)

    @cached_property
    def _lines(self) -> Mapping[Any, Line]:
        costs = self.numbers[self.numbers["metric"].isin(COSTS)]
        return {
            key: Line(dict(zip(part["depth"], part["value"], strict=True)))
            for key, part in costs.groupby(["metric", "case", "estimator"])
        }

    def rounds(self, case: str, estimator: str, metric: str = "seconds") -> Rounds:
        """Return the times of an estimator by round."""
        return self._rounds.get((metric, case, estimator), NO_ROUNDS)

    @cached_property
    def _rounds(self) -> Mapping[Any, Rounds]:
        # All that was timed in the same turns is compared with each other at each depth.
        p_values = [np.empty(0)]
        numbers = self.timings["samples"].map(len)
        alike = ["metric", "depth", "turns", numbers[numbers > 1]]
        for _, part in self.timings.groupby(alike):
            taken = np.array([*part["samples"]])
            one, other = np.triu_indices(len(taken), 1)
            p_values.append(paired.compare(taken[one], taken[other]).p_value)
        significance = paired.critical(np.concatenate(p_values))
        rounds = {}
        for key, part in self.timings.groupby(["metric", "case", "estimator"]):
            # Those at one depth may have been measured later than others.
            turns = part["turns"].iloc[-1]
            part = part[part["turns"] == turns]
            samples = dict(zip(part["depth"].astype(int), part["samples"], strict=True))
            rounds[key] = Rounds(samples, turns, significance)
        return rounds

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """The rows of the tidy table that have a number."""
        return self.frame[self.frame["status"].eq("ok") & self.frame["value"].notna()]

    @cached_property
    def measured(self) -> Mapping[str, tuple[Measured, ...]]:
        """What answers rest on: the estimators of each case."""

        return {
            case: tuple(
                Measured(
                    name,
                    self.curve(case, name),
                    self.line(case, name, "seconds"),
                    self.line(case, name, "memory_bytes"),
                    self.rounds(case, name),
                    facts["algorithm"],
                    case,
                    facts["differentiable"],
                )
                for name in self.estimators
            )
            for case, facts in self.cases.items()
        }

    @cached_property
    def problems(self) -> Sequence[tuple[str, tuple[Measured, ...]]]:
        """What each problem is called, and what was measured on it: the estimators of its cases,
        which differ in the algorithm alone.
        """
        groups, called = defaultdict(list), problem_labels(self.cases)
        for name, case in self.cases.items():
            groups[case["problem"]] += self.measured[name]
        return [(called[problem], tuple(measured)) for problem, measured in groups.items()]

    @property
    def solved(self) -> bool:
        """True if there is an algorithm that cannot be differentiated."""
        return not all(case["differentiable"] for case in self.cases.values())

    def badge(self, case: str) -> str:
        """Return ``limit`` for a case whose reference is a limit and no certified minimizer, else
        an empty text.
        """
        return "limit" if case in self._limits else ""

    @cached_property
    def _limits(self) -> set[str]:
        return set(self.references.loc[self.references["status"] == "limit", "case"])

    @cached_property
    def bounds(self) -> Mapping[tuple[str, str], float]:
        """The greatest bound over the seeds of each (case, target) whose references are certified
        or a limit.
        """
        scored = self.references[self.references["status"].isin(("certified", "limit"))]
        return scored[scored["bound"] > 0].groupby(["case", "target"])["bound"].max().to_dict()


# -- from files


@functools.cache
def parsed(spec: str) -> tuple[str, Mapping[str, Any]]:
    """Return name and options of a spec; other text counts as a name without options."""
    try:
        return names.parse(spec)
    except SpecError:
        return spec, {}


def load(home: Path, profile: str, commit: str = "") -> Results:
    """Read the results of the last run of a profile, or of the last run at a commit (full hash).

    A store keeps the records of all runs. What counts is those that the run's list names, not the
    newest.

    Parameters
    ----------
    home : Path
        Folder that holds one folder per profile.
    profile : str
    commit : str, optional

    Raises
    ------
    MissingResults
        If there are no results yet.
    UnreadableResult
        If nothing is left because files are damaged or of an unknown version; the text names the
        files and the remedy.
    """
    folder, remedy = home / profile, f"run `pudle run --profile {profile}`"
    damaged = []

    def read(kind: Any, places: Mapping[Any, str]) -> dict[Any, Any]:
        """Return records by their identities, without the missing and the damaged ones."""
        return {
            identity: record
            for identity, place in places.items()
            for record in read_each(
                filter(lies_at, [folder / place]),
                functools.partial(kind.read, identity=identity),
                damaged,
            )
        }

    # A run with uncommitted changes stands for its commit only in what no other run measured, cases
    # or experiments.
    lists = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
    run = RunList(commit=commit, dirty=False)
    for place in lists:
        for listed in read(RunList, {commit or None: place}).values():
            for field in RunList.__struct_fields__:
                setattr(run, field, getattr(listed, field) or getattr(run, field))
    cases = {
        (case.name, name): case for case, name in (run.selection.pairs if run.selection else ())
    }
    experiments = read(
        ExperimentRecord,
        {name: f"store/{place}" for name, place in sorted(run.experiments.items())},
    )
    scores = read(
        ScoreRecord,
        {
            (case, name): f"store/{place}"
            for case, name, place in run.records
            if (case, name) in cases
        },
    )
    cells = {
        tuple(cell): f"store/{place}" for *cell, place in run.costs if tuple(cell[1:3]) in cases
    }
    costs = read(CostRecord, cells)
    notes = [f"Damaged and left out: {line}." for line in damaged]
    if not scores and not experiments:
        if damaged:
            raise UnreadableResult("; ".join(damaged))
        instead = f"{remedy} first"
        if lies_at(home / "selection.json"):
            instead = f"{home} is a profile's own folder, did you mean --home {home.parent}?"
        raise MissingResults(f"no results for profile {profile!r} under {folder}: {instead}")
    if cases and not scores:
        notes.append(f"None of the selected cases is measured yet: {remedy}.")
        cases, cells = {}, {}
    if cells and not costs:
        notes.append(f"Neither time nor memory is measured: {remedy} without --scores-only.")
        cells = {}

    for record in (*scores.values(), *costs.values()):
        # It holds at this commit, whichever commit first measured it.
        record.provenance |= {"commit": commit} if commit else {}
    provenances = sorted(
        (record.provenance for record in (scores or experiments).values()),
        key=lambda origin: origin["date"],
        reverse=True,
    )
    unmeasured = {"status": "missing", "reason": f"not measured yet: {remedy}"}
    records, rows = [], []
    described = {}
    for (name, estimator), case in cases.items():
        record = scores.get((name, estimator))
        facts = {"problem": case.problem, "differentiable": True}
        described.setdefault(name, dataclasses.asdict(case) | facts)
        pair = {"case": name, "estimator": estimator, "leading": "relative_error"}
        claims, origin = dict.fromkeys(CLAIMS) | unmeasured, provenances[0]
        if record:
            claims, origin = {key: getattr(record, key) for key in CLAIMS}, record.provenance
            described[name]["differentiable"] = record.differentiable
            if not record.proximal:
                # What leads elsewhere is a problem of its own.
                described[name]["problem"] = name
        records.append(claims | pair)
        # A record without scores is one row with its reason. Costs have records of their own.
        scored = (record and record.scores) or [{"target": case.targets[0]} | claims]
        rows += [row | pair | dict.fromkeys(COSTS) | _origin(origin) for row in scored]
    for cell in cells:
        row = dict(zip(("leading", "case", "estimator", "depth"), cell, strict=True))
        record = scores.get(cell[1:3])
        at = record.at(cell[3]) if record else {"status": "ok"}
        if cost := costs.get(cell):
            row |= {cell[0]: cost.value, "samples": tuple(cost.samples), "turns": cost.turns}
            row |= {"status": cost.status, "reason": cost.reason} | _origin(cost.provenance)
        elif at["status"] == "ok":
            row |= unmeasured
        else:
            # A time has no number for the same reason as the scores.
            row["status"] = "error" if at["status"] in BROKEN else "skipped"
            row["reason"] = f"{at['status']}: {at['reason']}"
        rows.append(row)
    frame = _frame(rows, described).assign(profile=profile).astype(COLUMNS)
    # All estimators of a case share its references.
    references = pd.DataFrame(
        [row | {"case": name} for (name, _), record in scores.items() for row in record.references],
        columns=REFERENCES,
    ).drop_duplicates(["case", "seed", "target"], ignore_index=True)
    return Results(
        profile=profile,
        frame=frame[[*COLUMNS]],
        references=references.astype(dict.fromkeys(REFERENCES[5:], "float64")),
        records=records,
        timings=frame[frame["metric"].isin(TIMES) & frame["status"].eq("ok")].rename(
            columns={"value": "seconds"}
        ),
        cases=described,
        estimators=run.selection.estimators if run.selection and cases else (),
        provenances=provenances,
        notes=notes,
        experiments=[*experiments.values()],
        damaged=damaged,
    )


def _origin(provenance: Row) -> Row:
    return {name: provenance.get(name) or "" for name in ("commit", "machine")}


def _frame(rows: list[Row], cases: Mapping[str, Row]) -> pd.DataFrame:
    """Return one row per metric, from rows with a column for each.

    A metric that a problem does not have (signs of a smooth one) is absent. The leading one always
    has a row, because that row carries the reason of a failure.
    """
    keys = [
        "leading",
        "samples",
        "turns",
        *(name for name in COLUMNS if name not in ("metric", "value")),
    ]
    wide = pd.DataFrame(rows, columns=[*keys, *ERRORS, *COSTS])
    for name in ("dataset", "algorithm", "loss"):
        wide[name] = [cases[case][name] for case in wide["case"]]
    frame = wide.melt(keys, [*ERRORS, *COSTS], "metric", ignore_index=False)
    frame = frame.sort_index(kind="stable").astype({"value": float})
    leading = frame["metric"] == frame["leading"]
    frame["at_floor"] = frame["at_floor"].eq(True) & leading
    # A missing number must never count as a measured one.
    blank = leading & frame["status"].eq("ok") & frame["value"].isna()
    frame.loc[blank, ["status", "reason"]] = "error", "recorded as ok, without a value"
    return frame[leading | frame["value"].notna()].reset_index(drop=True)
