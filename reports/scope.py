"""What a report rests on: how much was measured, what is still to be measured, and what broke."""

from collections.abc import Sequence

from pudle import text
from pudle.measuring import contents
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


def some(names: Sequence[str]) -> str:
    """Return the first names as code, and how many more there are."""
    shown, more = [f"`{name}`" for name in names[:MOST_NAMES]], len(names) - MOST_NAMES
    return text.listing([*shown, f"{more} more"] if more > 0 else shown)


def broken(results: Results) -> list[str]:
    """Return the estimators with a measurement that broke (an error, not a finding), in order."""
    names = set(results.frame.loc[results.frame["status"].isin(contents.BROKEN), "estimator"])
    return [name for name in results.estimators if name in names]


def pending_sentence(results: Results) -> str:
    """Say what is still to be measured, or return an empty text."""
    missing = results.frame["status"] == "missing"
    counts = results.frame[missing]["metric"].value_counts()
    parts = [count(counts[name], *MEASURED[name]) for name in MEASURED if name in counts]
    if not parts:
        return ""
    scored = set(results.frame[~missing].query("metric == 'relative_error'")["estimator"])
    nowhere = [name for name in results.estimators if name not in scored]
    none = f" Nothing is scored yet with {some(nowhere)}." if nowhere else ""
    return (
        f"This run is unfinished: still to be measured are {text.listing(parts)}.{none} `pudle run"
        f" --profile {results.profile}` goes on where it stopped."
    )


def scope(results: Results) -> str:
    """Say how many estimators, cases and seeds a report rests on, and which were not measured."""
    experiments = count(len(results.experiments), "experiment")
    if not results.cases:
        return f"Rests on {experiments}."
    scored = [row for row in results.records if row["status"] == "ok"]
    estimators, cases = ({row[key] for row in scored} for key in ("estimator", "case"))
    rests = f"{count(len(estimators), 'estimator')} and {count(len(cases), 'case')}"
    if seeds := sorted({len(results.cases[name]["seeds"]) for name in cases}):
        least = f"{seeds[0]} to " if len(seeds) > 1 else ""
        rests += f" of {least}{count(seeds[-1], 'seed')}"
    if results.experiments:
        trained = dict.fromkeys(item.estimator for item in results.experiments if item.estimator)
        others = [name for name in trained if name not in results.estimators]
        rests += f", and {experiments}"
        rests += f", some of them with {some(others)}" if others else ""
    unscored = {
        "with": [name for name in results.estimators if name not in estimators],
        "on": [label for name, label in results.labels.items() if name not in cases],
    }
    left = text.listing([f"{word} {some(names)}" for word, names in unscored.items() if names])
    return f"Rests on {rests}." + (f" No score {left}." if left else "")


def repeated_draws(results: Results) -> list[str]:
    """Say on which cases every seed draws the same problem: those whose certificates agree over the
    seeds.
    """
    rows = results.references[results.references["gradient_norm"].notna()].drop(columns="seed")
    problems = rows.groupby(["case", "target"], sort=False)
    names = [
        results.labels[case]
        for (case, _), part in problems
        if 1 == len(part.drop_duplicates()) < len(part)
    ]
    where = f"Every seed draws the same problem on {some(list(dict.fromkeys(names)))}"
    what = "the range over the seeds says nothing about other problems there."
    return [f"{where}: {what}"] if names else []


def where_timed(results: Results) -> str:
    """Say on which machine times and memory were measured, or return an empty text where there are
    none.
    """
    frame = results.frame
    costs = frame[frame["metric"].isin(COSTS) & frame["status"].eq("ok")]
    machines = [f"`{name}`" for name in sorted(costs["machine"].dropna().unique())]
    each = "it alone" if len(machines) == 1 else "each alone"
    sentence = (
        f"Times and memory are those of {text.listing(machines)} and hold for {each}; errors carry"
        " over to other machines."
    )
    return sentence if machines else ""
