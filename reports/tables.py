"""All tables of a report as text, and sentences on what they rest on; a column of the summary is
one entry of `COLUMNS`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import floor, inf, isinf, isnan, log10, nan
from sys import float_info
from typing import NamedTuple

from msgspec.structs import replace

from pudle import text
from pudle.answers import ERROR, SAME_ERROR, Point
from pudle.measuring import stored_files
from pudle.measuring.check_results import FAILED, NOT_CHECKED, passed_with_other_options
from pudle.measuring.grouping import grouped
from pudle.measuring.results.score import ReferenceRow
from pudle.paired import Ratio
from pudle.reports.cells import (
    Cell,
    Shown,
    cost_cell,
    cost_text,
    deepest_alone,
    interval_cell,
    is_blank,
    number_cell,
    numbers_cell,
    percent_cell,
)
from pudle.reports.glossary import in_words_of
from pudle.reports.load import TIMES, Results, parsed
from pudle.reports.markup import Table
from pudle.reports.summary import BASE, FEWEST_SEEDS, WINDOW, Law, Summary, spread
from pudle.text import DASH

VERSIONS = ("pudle", "python", "torch", "numpy", "asv")
#: The estimator that goes back through few layers. It costs what its error is larger than that of
#: all layers, if it is this many times as large.
TRUNCATED, COSTLY = "truncated", 2
#: Kernels that gain less than this are none.
SAME_TIME = 1.1
#: How tables show rates, and ratios.
RATE, RATIO = partial(text.fixed, digits=4), partial(text.fixed, digits=2)
EXACT_RATIO = partial(text.number, digits=3)


def case_cell(results: Results, case: str) -> Cell:
    """Show the label of a case, with its name as the cell's case where that is another."""
    label = results.labels[case]
    return Cell(label, case="" if label == case else case)


class Row(NamedTuple):
    """What a column of the summary shows of an estimator on a case."""

    numbers: Summary
    #: The least depth that it needs to reach the required error.
    reach: Point
    #: Where the deepest depth alone reaches it: the depth before that.
    missed_before: Point | None
    #: The least time to it and the depth that goes with that, which answers and charts show too.
    fastest: Point
    #: The deepest depth at which any estimator has an error.
    last: float


def _error(row: Row) -> Cell:
    """Show the error at the deepest depth, median and range over the seeds, and how that is less
    than all of it: the depth, the seeds, or the bound.
    """
    depth, by_seed, at_floor = row.numbers.deepest
    if not by_seed:
        return Cell(DASH)
    measured, seeds = len(by_seed), row.numbers.seeds
    extent = "in part " if at_floor < measured else ""
    remarks = {
        f"at depth {depth:.0f}": depth != row.last,
        f"{measured} of {seeds} seeds": measured < seeds,
        f"{extent}at the bound": at_floor > 0,
    }
    details = [remark for remark, holds in remarks.items() if holds]
    return interval_cell(*row.numbers.deepest.error).with_details(*details)


def _depth(row: Row) -> Cell:
    """Show the depth to the required error, with the range over the seeds; where it is not reached,
    infinite, and in how many seeds it is not.
    """
    depth, depths = row.reach.depth, row.reach.depths.values()
    if isinf(depth):
        seeds = row.numbers.seeds
        missed = sum(map(isinf, depths)) + seeds - len(depths)
        share = f" in {missed} of {seeds} seeds" if missed < seeds else ""
        return Cell(f"not reached{share}", key=inf)
    ends = min(depths, default=depth), max(depths, default=depth)
    cell = interval_cell(depth, *ends, "{:.0f}".format, f"≤ {depth:.0f}")
    return cell.with_details(*deepest_alone(row.missed_before))


def _time(row: Row) -> Cell:
    """Show the least time to the required error, with its quartiles over rounds, and the depth that
    an answer names where it is not the first that reaches the error; infinite where the error is
    reached beyond all depths with a known time.
    """
    depth, seconds, source = row.fastest.depth_of_time, row.fastest.seconds, row.fastest.source
    if isnan(seconds.value) and depth < inf and source.seconds.measured:
        return Cell("beyond the timed depths", key=inf)
    quartiles, middle = source.rounds.quartiles(depth), cost_text(seconds, text.seconds)
    cell = interval_cell(seconds.value, *quartiles, text.seconds, middle)
    answered = row.fastest.depth
    return cell.with_details(f"at depth {answered:.0f}") if answered > row.reach.depth else cell


def _relative(ratio: Ratio, depth: float, last: float) -> Cell:
    """Show a ratio of times, and its depth where that is not the last."""
    cell = interval_cell(ratio.value, ratio.low, ratio.high, EXACT_RATIO)
    return cell.with_details(f"at depth {depth:.0f}") if ratio.value > 0 and depth < last else cell


class Column(NamedTuple):
    """A column of the summary, in Markdown, LaTeX, CSV and the page."""

    #: In it, ``{error}`` stands for the required error.
    label: str
    #: Makes the cell of a row; its key is the number for CSV and for sorting.
    cell: Callable[[Row], Cell]
    #: Whether a cell depends on the required error.
    by_error: bool = False


#: The columns of the summary. One without a value in any row of a case is left out there.
COLUMNS = (
    Column("error at the deepest depth", _error),
    Column("depth to {error}", _depth, by_error=True),
    Column("time to {error}", _time, by_error=True),
    Column(f"time / {BASE}", lambda row: _relative(*row.numbers.relative_seconds, row.last)),
    Column(
        "torch path: time to {error}",
        lambda row: cost_cell(row.numbers.torch.at(row.fastest.depth_of_time), text.seconds),
        by_error=True,
    ),
    Column(
        f"torch path: time / {BASE}", lambda row: _relative(*row.numbers.relative_torch, row.last)
    ),
    Column("gain by kernels", lambda row: number_cell(row.numbers.gain, RATIO)),
    Column("memory", lambda row: number_cell(row.numbers.measured.memory.last[1], text.memory)),
    Column(
        "status",
        lambda row: Cell(row.numbers.status).with_details(*filter(None, [row.numbers.check])),
    ),
)


def summary_cells(rows: Sequence[Summary], errors: Sequence[float]) -> list[dict[str, list[Cell]]]:
    """Return all columns of the summary, a cell for each row, by their labels, once for each of
    some required errors.

    The required error decides, and stands in the labels of, the columns of the depth and the time
    that reach it. What depends on none is made once.
    """
    last = max((row.deepest.depth for row in rows if row.deepest.by_seed), default=nan)
    shared: dict[str, list[Cell]] = {}
    cells_by_error = []
    for error in errors:
        summary_rows = [
            Row(
                row,
                row.measured.reach(error),
                row.measured.missed_before(error),
                row.measured.fastest_reach(error),
                last,
            )
            for row in rows
        ]
        error_text = text.number(error, 1)
        cells = {}
        for column in COLUMNS:
            if column.by_error:
                label = column.label.format(error=error_text)
                cells[label] = [column.cell(row) for row in summary_rows]
            else:
                if column.label not in shared:
                    shared[column.label] = [column.cell(row) for row in summary_rows]
                cells[column.label] = shared[column.label]
        cells_by_error.append(cells)
    return cells_by_error


def summary_tables(rows: Sequence[Summary], errors: Sequence[float]) -> list[Table]:
    """Return the summary of one case for each of some required errors, see `summary_table`."""
    estimators = {"estimator": [row.estimator for row in rows]}
    return [
        Table(
            estimators
            | {label: column for label, column in cells.items() if not all(map(is_blank, column))}
        )
        for cells in summary_cells(rows, errors)
    ]


def summary_table(rows: Sequence[Summary], error: float = ERROR) -> Table:
    """Return the summary of one case, one row per estimator, without columns that are empty in
    every row.
    """
    (table,) = summary_tables(rows, [error])
    return table


def rates_table(results: Results, rows: Iterable[Summary]) -> Table:
    """Return fitted and predicted rates, one row per case and estimator that has a fitted rate;
    without any the table has no rows.
    """
    rate_rows: list[dict[str, Shown]] = []
    for row in rows:
        if number := len(row.fitted):
            remarks = [f"{number} of {row.seeds} seeds"] if number < row.seeds else []
            first, last = row.window
            rate_rows.append(
                {
                    "case": case_cell(results, row.case),
                    "estimator": row.estimator,
                    "theory": str(row.theory),
                    "predicted rate": interval_cell(*row.predicted_rate, RATE),
                    "fitted rate": interval_cell(*row.rate, RATE),
                    "depths": Cell(f"{first:.0f} to {last:.0f}", key=first),
                    "acceleration": interval_cell(*row.acceleration, RATIO),
                    "remark": ", ".join(remarks + (["not straight"] if row.crooked else [])),
                }
            )
    return Table.of(rate_rows, [] if rate_rows else ["case"])


def without_rate(rows: Iterable[Summary]) -> str:
    """Say how many rows of the summary have errors and no rate, and why; an empty text where there
    are none.
    """
    counts = Counter(
        row.fits[0].reason.partition(":")[0]
        for row in rows
        if row.deepest.by_seed and not row.fitted
    )
    reasons = ", ".join(f"{reason} ({number})" for reason, number in counts.most_common())
    return (
        f"{text.count(counts.total(), 'row')} without a rate left out: {reasons}."
        if reasons
        else ""
    )


#: What is measured, by metric, as one and as several; all scores of an estimate fail together.
MEASURED = {
    "relative_error": ("score", "scores"),
    "seconds": ("time", "times"),
    "memory_bytes": ("memory", "memories"),
}
PROBLEMS = "case estimator what status depths seeds reason".split()


def problems_table(results: Results) -> Table:
    """List the skipped, refused and failed measurements with their reasons: one row per kind of
    failure, and per experiment. A measurement that is not made yet is no problem.
    """
    unscored = {
        (record.case.name, record.estimator) for record in results.records if record.status != "ok"
    }
    failures = [
        row
        for row in results.rows
        if row.metric in MEASURED and row.status not in ("ok", "missing")
        # If an estimator was not scored, its record gives a better reason for skipped timings.
        if row.status != "skipped"
        or row.metric == "relative_error"
        or (row.case, row.estimator) not in unscored
    ]
    kinds = grouped(
        failures, lambda row: (row.case, row.estimator, row.metric, row.status, row.reason)
    )
    rows: list[tuple[Shown, ...]] = []
    for (case, estimator, metric, status, reason), failed_rows in kinds.items():
        # A record without scores has no depth, a cost has no seed.
        depths = [row.depth for row in failed_rows if row.depth is not None]
        seeds = [row.seed for row in failed_rows if row.seed is not None]
        places = (numbers_cell(numbers) if numbers else "all" for numbers in (depths, seeds))
        measurement = case_cell(results, case), estimator, MEASURED[metric][0], status
        rows.append((*measurement, *places, reason))
    for experiment in results.experiments:
        if experiment.status != "ok":
            method = experiment.estimator or experiment.options.get("baseline") or DASH
            depth, seed = (str(experiment.options.get(name, DASH)) for name in ("depth", "seed"))
            rows.append(
                (
                    experiment.name,
                    str(method),
                    experiment.study,
                    experiment.status,
                    depth,
                    seed,
                    experiment.reason,
                )
            )
    return Table.of([dict(zip(PROBLEMS, row, strict=True)) for row in rows], PROBLEMS)


class CertificateColumn(NamedTuple):
    """A column of the certificates: which number, which of the seeds is worst, and how
    it is shown."""

    number: Callable[[ReferenceRow], float | None]
    worst: Callable[[Sequence[float]], float]
    cell: Callable[[float], Cell] = number_cell


def _certain_digits(reference: ReferenceRow) -> float | None:
    """Return the number of leading digits of a gradient that its certificate vouches for, by the
    norm, 15 at most; None where it is not certified.

    An estimated bound vouches for none of them.
    """
    if reference.status != "certified" or reference.bound is None:
        return None
    # No reference is in more than double precision.
    return max(floor(-log10(max(reference.bound, float_info.epsilon))), 0)


MODULUS, ZERO_CODES = "modulus, claimed", "all-zero codes"
#: By label.
CERTIFICATES = {
    "bound": CertificateColumn(lambda reference: reference.bound, max),
    "certain digits": CertificateColumn(_certain_digits, min),
    "KKT residual": CertificateColumn(lambda reference: reference.kkt_residual, max),
    "condition": CertificateColumn(lambda reference: reference.condition_number, max),
    MODULUS: CertificateColumn(lambda reference: reference.modulus, min),
    "dual margin": CertificateColumn(lambda reference: reference.dual_margin, min),
    "smallest amplitude": CertificateColumn(lambda reference: reference.smallest_amplitude, min),
    ZERO_CODES: CertificateColumn(lambda reference: reference.zero_codes, max, percent_cell),
}


#: What the table of certificates says in place of a column that says nothing.
SAME_CERTIFICATES = {
    "status": "the reference is certified",
    "target": "the target is the exact gradient",
    ZERO_CODES: "no code is zero throughout",
    "uncertified samples": "no sample is left uncertified",
}


def references_table(results: Results) -> Table:
    """Return the certificates, one row per case and target, with the worst number over the seeds; a
    number that no reference has is no column.
    """
    rows, references = list[dict[str, Shown]](), results.references.values()
    # Which numbers a certificate has depends on the kind of problem.
    certificates = {
        label: certificate
        for label, certificate in CERTIFICATES.items()
        if any(certificate.number(reference) is not None for reference in references)
    }
    for (case, target), part in _certificates(results).items():
        counts = Counter(reference.status for reference in part)
        statuses = [f"{status} ({count} of {len(part)})" for status, count in counts.items()]
        status = ", ".join(statuses) if len(counts) > 1 else part[0].status
        row: dict[str, Shown] = {
            "case": case_cell(results, case),
            "target": target,
            "status": status,
        }
        unchecked = sum(reference.modulus_unchecked for reference in part)
        for label, certificate in certificates.items():
            known = [quantity for quantity in map(certificate.number, part) if quantity is not None]
            cell = certificate.cell(certificate.worst(known) if known else nan)
            if label == ZERO_CODES and not results.has_signs(case):
                cell = Cell(DASH)
            if unchecked and label == MODULUS:
                cell = cell.with_details(f"(not checked in {unchecked} of {len(part)})")
            row[label] = cell
        failing = [reference.uncertified for reference in part if reference.uncertified is not None]
        samples = sum(reference.samples or 0 for reference in part)
        share = Cell(f"{sum(failing):.0f} of {samples:.0f}", key=sum(failing))
        # Where there is one system for each seed, the status says it.
        row["uncertified samples"] = share if failing and samples > len(part) else DASH
        # It is the factor of a layer.
        rho = [reference.rho or nan for reference in part if case not in results.solvers]
        row["rho"] = interval_cell(*spread(rho), RATE)
        rows.append(row)
    return Table.of(rows)


def certificates_table(results: Results) -> Table:
    """Return the certificates as a report shows them: those of a problem's cases, which have the
    same reference, in one row with the problem's name.

    Cases whose numbers, or whose factors of a layer, differ keep rows of their own.
    """
    table = references_table(results)
    problem_of = {source.case: label for label, measured in results.problems for source in measured}
    rows: dict[tuple[str, ...], list[dict[str, Shown]]] = {}
    for (case, _), record in zip(_certificates(results), table.records, strict=True):
        numbers = [str(cell) for name, cell in record.items() if name not in ("case", "rho")]
        rows.setdefault((problem_of.get(case, case), *numbers), []).append(record)
    merged = []
    for (problem, *_), records in rows.items():
        rates = [record["rho"] for record in records if not is_blank(record["rho"])]
        if len(records) == 1 or len({str(rate) for rate in rates}) > 1:
            merged += records
        else:
            first = Cell(problem, case=_case_name(records[0]["case"]))
            merged.append(records[0] | {"case": first, "rho": rates[0] if rates else DASH})
    return Table.of(merged)


def _case_name(shown: Shown) -> str:
    """Return the name of the case that a cell stands for."""
    return shown.case or shown.text if isinstance(shown, Cell) else shown


def certificates_caption(results: Results) -> str:
    """Return the caption of the table of certificates, which also says what holds for all of its
    rows and is therefore no column.
    """
    table = certificates_table(results)
    left_out = table.columns.keys() - table.concise().columns.keys()
    same = [
        words
        for name, words in SAME_CERTIFICATES.items()
        if name in left_out and not all(map(is_blank, table.columns[name]))
    ]
    caption = "References of each problem, or of a case where its own differ"
    return f"{caption}. In all rows {text.listing(same)}" if same else caption


def _certificates(results: Results) -> dict[tuple[str, str], list[ReferenceRow]]:
    """Return the certificates of all seeds by case and target."""
    groups = grouped(results.references.items(), lambda keyed: (keyed[0][0], keyed[0][2]))
    return {key: [reference for _, reference in keyed] for key, keyed in groups.items()}


def provenance_table(results: Results) -> dict[str, str]:
    """Return the origin of the numbers by what it says, such as ``Commit``; several origins are
    listed, and what nobody knows is left out.
    """
    seeds = sorted({tuple(case.seeds) for case in results.cases.values()})
    measuring = sorted({record.provenance.threads or 1 for record in results.costs})
    rows = []
    for origin in results.provenances:
        # A plug-in's record may lack any but the date.
        versions = [(name, getattr(origin, name)) for name in VERSIONS]
        changed = " with uncommitted changes" if origin.dirty else ""
        sources = f"pudle {origin.pudle} {origin.sources}" if origin.sources else ""
        rows.append(
            {
                "Profile": results.profile,
                "Commit": (origin.commit or "none")[:12] + changed,
                "Sources": sources,
                "Newest record": results.provenances[0].date,
                "Machine": origin.machine or "",
                "System": origin.system or "",
                "Processor": f"{origin.cpu}, {origin.cores} cores, {origin.memory_gib} GiB",
                "Device": f"{origin.device} {origin.accelerator}".strip(),
                # Those of times and memories, which scores do not depend on.
                "Threads": ", ".join(map(str, measuring)) or str(origin.threads),
                "Versions": ", ".join(f"{name} {version}" for name, version in versions if version),
                "BLAS": origin.blas or "",
                "Seeds": "; ".join(map(text.numbers, seeds)),
                "Estimators": ", ".join(results.estimators),
            }
        )
    facts = {name: dict.fromkeys(str(row[name]) for row in rows if row[name]) for name in rows[0]}
    return {name: text.listing([*values]) for name, values in facts.items() if values}


def findings(rows: Sequence[Summary]) -> str:
    """Say, for the summary of a case, what holds whatever error is wanted: which estimators are the
    most accurate, which keep an error, what truncation costs, and which fall faster; an empty text
    without scores.
    """
    scored = [row for row in rows if row.deepest.by_seed]
    sentences = [_most_accurate(scored)] if scored else []
    floors = [
        f"`{row.estimator}` ({text.number(row.deepest.error.value)})"
        for row in scored
        if row.theory and not row.theory.power
    ]
    if floors:
        verb = "keeps" if len(floors) == 1 else "keep"
        sentences.append(
            f"{text.listing(floors)} {verb} an error on this loss that no depth removes."
        )
    full = next((row.deepest.error.value for row in scored if row.estimator == WINDOW), nan)
    sentences += [
        f"What truncation costs: `{row.estimator}` ends at an error of"
        f" {text.number(row.deepest.error.value)}, `{WINDOW}` at {text.number(full)}."
        for row in scored
        if parsed(row.estimator)[0] == TRUNCATED
        and row.theory != Law(0)
        and row.deepest.error.value > COSTLY * full
    ]
    faster = [
        row
        for row in rows
        if row.theory and row.theory.power == 2 and not row.crooked
        if row.acceleration.value == row.acceleration.value
    ]
    if faster:
        ratios = [f"`{row.estimator}` {text.between(*row.acceleration, RATIO)}" for row in faster]
        fewest = min(
            sum(fit.acceleration == fit.acceleration for fit in row.fits) for row in faster
        )
        measure = "mean and its 95% interval" if fewest >= FEWEST_SEEDS else "median and range"
        basis = f"theory: 2; {measure} over {text.count(fewest, 'seed')}"
        sentences.append(f"Rate of decay over that of `{BASE}` ({basis}): {text.listing(ratios)}.")
    return " ".join(sentences)


def _most_accurate(scored: Sequence[Summary]) -> str:
    """Say which estimators are the most accurate at the deepest depth, and on how many seeds."""
    depth = max(row.deepest.depth for row in scored)
    last = [row for row in scored if row.deepest.depth == depth]
    bound = [row for row in last if row.deepest.at_floor == len(row.deepest.by_seed)]
    if len(bound) > 1:
        names = text.listing([f"`{row.estimator}`" for row in bound])
        error = text.number(max(row.deepest.error.value for row in bound))
        return f"Most accurate at depth {depth:.0f}: {names}, all at the certified bound ({error})."
    best = min(last, key=lambda row: row.deepest.error.value)
    least = best.deepest.error.value
    near = [row for row in last if row.deepest.error.value - least <= SAME_ERROR * least]
    if len(near) > 1:
        names = text.listing([f"`{row.estimator}`" for row in near])
        error = f"{text.number(least)} (differences below {SAME_ERROR:.0%})"
        return f"Most accurate at depth {depth:.0f}: {names}, {error}."
    errors = best.deepest.by_seed
    won = sum(
        error <= min(row.deepest.by_seed.get(seed, inf) for row in last)
        for seed, error in errors.items()
    )
    wins = f" (best in {won} of {len(errors)} seeds)" if len(last) > 1 and len(errors) > 1 else ""
    return f"Most accurate at depth {depth:.0f}: `{best.estimator}`, {text.number(least)}{wins}."


# -- what a report rests on: how much was measured, what is still to be measured, and what broke

#: Most names in a sentence.
MOST_NAMES = 4


def some(names: Sequence[str]) -> str:
    """Return the first `MOST_NAMES` names as code, and how many more there are."""
    return text.listing(shortened_names([f"`{name}`" for name in names]))


def shortened_names(names: Sequence[str]) -> list[str]:
    """Return the first `MOST_NAMES` names, and how many more there are as the last."""
    more = len(names) - MOST_NAMES
    return [*names[:MOST_NAMES], *([f"{more} more"] if more > 0 else [])]


def broken(results: Results) -> list[str]:
    """Return the estimators with a measurement that broke (an error, not a finding), in order, and
    the experiments that did.
    """
    names = {row.estimator for row in results.rows if row.status in stored_files.BROKEN}
    return [name for name in results.estimators if name in names] + [
        experiment.name
        for experiment in results.experiments
        if experiment.status in stored_files.BROKEN
    ]


def pending_sentence(results: Results) -> str:
    """Say what is still to be measured, or return an empty text."""
    counts = Counter(row.metric for row in results.rows if row.status == "missing")
    parts = [text.count(counts[name], *words) for name, words in MEASURED.items() if counts[name]]
    if not parts:
        return ""
    return (
        f"This run is unfinished: still to be measured are {text.listing(parts)}."
        " The command that started it goes on where it stopped."
    )


def unselected(results: Results) -> list[str]:
    """Say which estimators were not selected with which algorithms, and why if the algorithm has no
    layers; a sentence for each algorithm, none where all were selected.
    """
    measured = {(record.case.name, record.estimator) for record in results.records}
    absent = [
        (case.algorithm, estimator, name in results.solvers)
        for name, case in results.cases.items()
        for estimator in results.estimators
        if (name, estimator) not in measured
    ]
    sentences = []
    for (algorithm, solver), pairs in grouped(absent, lambda pair: (pair[0], pair[2])).items():
        why = ", which has no layers to differentiate" if solver else ""
        names = some([*dict.fromkeys(estimator for _, estimator, _ in pairs)])
        sentences.append(f"Not selected with `{algorithm}`{why}: {names}.")
    return sentences


def scope(results: Results) -> str:
    """Say how many estimators, cases, seeds and experiments a report rests on, and which of those
    selected were not scored.
    """
    trainings = all(record.kind == "learning" for record in results.experiments)
    noun = "training" if trainings else "experiment"
    experiments = text.count(len(results.experiments), noun)
    if not results.cases:
        return f"Rests on {experiments}."
    scored = [record for record in results.records if record.status == "ok"]
    estimators = {record.estimator for record in scored}
    cases = {record.case.name for record in scored}
    rests = f"{text.count(len(estimators), 'estimator')} and {text.count(len(cases), 'case')}"
    if seeds := sorted({len(results.cases[name].seeds) for name in cases}):
        least = f"{seeds[0]} to " if len(seeds) > 1 else ""
        rests += f" of {least}{text.count(seeds[-1], 'seed')}"
    if results.experiments:
        rests += f", and {experiments}"
    unscored: dict[str, Sequence[str]] = {
        "with": [name for name in results.estimators if name not in estimators],
        "on": [label for name, label in results.labels.items() if name not in cases],
    }
    omissions = text.listing([f"{word} {some(names)}" for word, names in unscored.items() if names])
    return f"Rests on {rests}." + (f" No score {omissions}." if omissions else "")


def notes(results: Results, rows: Iterable[Summary]) -> Iterator[str]:
    """Yield the notes that a reader needs with the numbers: which plug-ins are no answer, as they
    failed their check, and which gain nothing from kernels; and about the cases.
    """
    yield from results.notes
    if failed := [name for name, verdict in results.checks.items() if verdict == FAILED]:
        yield f"No answer, because `pudle check` failed: {some(failed)}."
    if plain := dict.fromkeys(
        row.estimator for row in rows if row.gain < SAME_TIME and row.estimator in results.checks
    ):
        fair = "compare with the times of the others on the torch path, not with those of kernels"
        yield f"On torch's layers: {some([*plain])}; {fair}."
    yield from _notes_on_cases(results)


def _notes_on_cases(results: Results) -> Iterator[str]:
    """Yield on which cases every seed draws the same problem, whose certificates then agree, and on
    which a solver leaves samples unsolved at the deepest depth.
    """
    names = [
        results.labels[case]
        for (case, _), part in _certificates(results).items()
        for problems in [
            [repr(replace(reference, seed=0)) for reference in part if reference.gradient_norm]
        ]
        if len({*problems}) == 1 < len(problems)
    ]
    if names:
        where = f"Every seed draws the same problem on {some([*dict.fromkeys(names)])}"
        yield f"{where}: the range over the seeds says nothing about other problems there."
    for name, records in grouped(results.records, lambda record: record.case.name).items():
        last = results.cases[name].depths[-1]
        rows = [row for record in records for row in record.scores if row.depth == last]
        if most := max((row.unfinished for row in rows), default=0):
            yield (
                f"{results.labels[name]}: after {last} steps up to"
                f" {text.count(most, 'sample')} of a seed are not solved, which the errors there"
                " show: give more steps."
            )


def where_timed(results: Results) -> str:
    """Say on which machine times and memory were measured, or return an empty text where there are
    none.
    """
    names = {cost.provenance.cpu or str(cost.provenance.machine) for cost in results.costs}
    machines = [f"`{name}`" for name in sorted(names)]
    holders = "it alone" if len(machines) == 1 else "each alone"
    sentence = (
        f"Times and memory are those of {text.listing(machines)} and hold for {holders}; errors"
        " carry over to other machines."
    )
    return sentence if machines else ""


# -- what a reader should not rely on

#: A condition number from which on it is told.
ILL = 1e4


def caveats(results: Results, rows: Sequence[Summary]) -> list[str]:
    """Return the caveats of the report, a sentence or two each: single seeds, what costs and errors
    do not tell, and plug-ins that were not checked.
    """
    sentences = []
    if single := [
        results.labels[name] for name, case in results.cases.items() if not case.seeds[1:]
    ]:
        sentences.append(
            f"One seed alone on {some(single)}: an order of estimators there may be chance."
        )
    trained = [record for record in results.experiments if record.estimator]
    methods = {repr(sorted((record.options | {"seed": None}).items())) for record in trained}
    if len(methods) == len(trained) > 1:
        sentences.append("Each training ran with one seed only: small differences may be chance.")
    sentences += [in_words_of(results, sentence) for sentence in _of_numbers(results)]
    sentences += _of_depths(results, rows)
    if unchecked := [name for name, verdict in results.checks.items() if verdict == NOT_CHECKED]:
        alike = {name: passed_with_other_options(name) for name in unchecked}
        sentences += [
            f"`{name}` was checked as {text.listing([f'`{other}`' for other in others])} only."
            for name, others in alike.items()
            if others
        ]
        missed = "did not go through `pudle check`, which tests what an estimator claims."
        if never := [name for name, others in alike.items() if not others]:
            sentences.append(f"{some(never)} {missed}")
    return sentences


def _of_numbers(results: Results) -> Iterator[str]:
    """Yield caveats about times and memories, where they were measured, and about cases whose codes
    have a large condition number.
    """
    if depths := sorted({row.depth or 0 for row in results.numbers if row.metric in TIMES}):
        timed_depths = ", ".join(map(str, depths))
        yield (
            f"Times are measured at the depths {timed_depths} and at those of answers; all others"
            " are estimates. Time and memory are those of one seed, and what else ran on the"
            " machine meanwhile is not recorded: ratios, which were measured in turns, hold better"
            " than seconds."
        )
    sources = [source for case in results.measured.values() for source in case]
    if (noise := max((source.memory_noise for source in sources), default=0.0)) > 0:
        yield (
            "Memory is the peak of a process, measured once at each depth. What an allocator keeps"
            f" varies: a run took up to {text.memory(noise)} more than another of the same"
            " estimator that has more layers, or differs in the outer loss alone. Smaller"
            " differences say nothing, and decide no answer; nor does an estimated memory."
        )
    known = [(key[0], row.condition_number or 0) for key, row in results.references.items()]
    if ill := dict.fromkeys(case for case, number in known if number > ILL):
        largest = text.number(max(number for _, number in known), 1)
        yield (
            f"Condition numbers of codes are up to {largest} on"
            f" {some([results.labels[case] for case in ill])}: a little other data has other"
            " gradients there."
        )


def _of_depths(results: Results, rows: Sequence[Summary]) -> Iterator[str]:
    """Yield caveats if estimators reach the default error at the deepest measured depth alone, or
    at none.
    """
    alone = [
        (before.error, before.depth, row)
        for row in rows
        if (before := row.measured.missed_before(ERROR))
    ]
    # Where the error was largest one depth before, it says least about more layers.
    alone.sort(key=lambda missed: -missed[0])
    pairs = [
        f"`{row.estimator}` on {results.labels[row.case]} ({text.number(error)} at depth {depth})"
        for error, depth, row in alone
    ]
    if pairs:
        goal = text.number(ERROR, 1)
        yield (
            f"The deepest measured depth alone has an error of at most {goal} for"
            f" {text.listing(shortened_names(pairs))}. It does not show that more layers keep it."
        )
    if any(isinf(row.measured.reach(ERROR).depth) for row in rows):
        yield "An error that no measured depth reaches may be reached by more layers."
