"""What a report rests on: how much was measured, what is still to be measured, and what broke."""

from __future__ import annotations

import pandas as pd

from pudle import text
from pudle.measuring import statuses
from pudle.reports.results import COSTS, Results
from pudle.text import count

#: What is measured, by metric, as one and as several.
MEASURED = {
    "relative_error": ("score", "scores"),
    "seconds": ("time", "times"),
    "memory_bytes": ("memory", "memories"),
}
#: Most names in a sentence.
MOST_NAMES = 4


def some(names: list[str]) -> str:
    """Return the first names as code, and how many more there are."""
    shown = [f"`{name}`" for name in names[:MOST_NAMES]]
    return text.listing(
        [*shown, f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else shown
    )


def broken(results: Results) -> list[str]:
    """Return the estimators with a measurement that broke (an error, not a finding), in order."""
    both = pd.concat([frame[["estimator", "status"]] for frame in (results.frame, results.records)])
    names = set(both.loc[both["status"].isin(statuses.BROKEN), "estimator"])
    return [name for name in results.estimators if name in names]


def pending(results: Results) -> pd.DataFrame:
    """Return what is selected and not measured yet: case, estimator and metric."""
    rows = results.frame[results.frame["status"] == "missing"]
    return rows[["case", "estimator", "metric"]].reset_index(drop=True)


def pending_sentence(results: Results) -> str:
    """Say what is still to be measured, or return an empty text."""
    rows = pending(results)
    if rows.empty:
        return ""
    counts = rows["metric"].value_counts()
    parts = [
        count(int(counts[metric]), *words) for metric, words in MEASURED.items() if metric in counts
    ]
    scores = rows[rows["metric"] == "relative_error"]
    measured = results.frame[
        results.frame["metric"].eq("relative_error") & results.frame["status"].ne("missing")
    ]
    awaited = set(scores["estimator"]) - set(measured["estimator"])
    nowhere = [name for name in results.estimators if name in awaited]
    none = f" Nothing is scored yet with {some(nowhere)}." if nowhere else ""
    run = f"`pudle run --profile {results.profile}`"
    return (
        f"This run is unfinished: still to be measured are {text.listing(parts)}.{none} {run} goes"
        " on where it stopped."
    )


def scope(results: Results) -> str:
    """Say how many estimators, cases and seeds a report rests on, and which were not measured."""
    scored = results.records.loc[results.records["status"] == "ok", ["case", "estimator"]]
    estimators = [name for name in results.estimators if name in set(scored["estimator"])]
    cases = [name for name in results.cases if name in set(scored["case"])]
    if not results.cases:
        return f"Rests on {count(len(results.experiments), 'experiment')}."
    seeds = sorted({len(results.cases[name]["seeds"]) for name in cases})
    each = (
        f" of {f'{seeds[0]} to ' if len(seeds) > 1 else ''}{count(seeds[-1], 'seed')}"
        if seeds
        else ""
    )
    sentence = (
        f"Rests on {count(len(estimators), 'estimator')} and {count(len(cases), 'case')}{each}"
    )
    trained = dict.fromkeys(record.estimator for record in results.experiments if record.estimator)
    others = [name for name in trained if name not in results.estimators]
    some_with = f", some of them with {some(others)}" if others else ""
    sentence += (
        f", and {count(len(results.experiments), 'experiment')}{some_with}."
        if results.experiments
        else "."
    )
    without = [name for name in results.estimators if name not in estimators]
    unscored = [name for name in results.cases if name not in cases]
    left = [
        f"{word} {some(names)}" for word, names in (("with", without), ("on", unscored)) if names
    ]
    return f"{sentence} No score {text.listing(left)}." if left else sentence


def repeated_draws(results: Results) -> list[str]:
    """Say on which cases every seed draws the same problem: those whose certificates agree over the
    seeds.
    """
    references = results.references[results.references["gradient_norm"].notna()]
    distinct = references.drop(columns="seed").drop_duplicates()
    seeds, draws = (
        rows.groupby(["case", "target"], sort=False).size() for rows in (references, distinct)
    )
    names = list(dict.fromkeys(case for case, _ in seeds.index[(seeds > 1) & (draws == 1)]))
    where = f"Every seed draws the same problem on {some(names)}"
    return (
        [f"{where}: the range over the seeds says nothing about other problems there."]
        if names
        else []
    )


def where_timed(results: Results) -> str:
    """Say on which machine times and memory were measured, or return an empty text where there are
    none.
    """
    costs = results.frame[results.frame["metric"].isin(COSTS) & (results.frame["status"] == "ok")]
    machines = sorted(costs["machine"].dropna().unique())
    if not machines:
        return ""
    each = "it alone" if len(machines) == 1 else "each alone"
    names = text.listing([f"`{name}`" for name in machines])
    return (
        f"Times and memory are those of {names} and hold for {each}; errors carry over to other"
        " machines."
    )
