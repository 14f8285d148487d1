"""The leaderboard as Markdown for the site, and a badge for each submission and family."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader

from pudle import text
from pudle.answers import ERROR
from pudle.errors import PudleError
from pudle.files import write_atomically
from pudle.reports import markup
from pudle.reports.compare.sides import load_folder
from pudle.reports.leaderboard.ranking import (
    differing,
    errors,
    families,
    machine_of,
    ranked,
    reached,
    time_ratio,
)
from pudle.reports.leaderboard.scoring import measure_apart
from pudle.reports.leaderboard.submission import MANIFEST, PROFILE, Submission, read_submission

#: What submissions are ranked beside.
BUILT_IN = ("alternating", "analytic", "backprop", "truncated(window=10)", "one_step")
RATIO = "time / backprop"
ABOUT_TIMES = (
    "Relative to `backprop` in the same submission; machines are not compared with each other."
)


def write_leaderboard(folder: Path, out: Path, log: Callable[[str], None]) -> Path:
    """Score, rank, and write ``leaderboard.md``, ``leaderboard.csv`` and ``badges/``; return the
    path of the first.
    """
    log("scoring built-in estimators")
    own = out / "scores" / "built-in"
    measure_apart(Path.cwd(), own, list(BUILT_IN), scores_only=True)
    results = load_folder(own / PROFILE)
    scored = {name: reached(results, name) for name in BUILT_IN}
    accepted: dict[str, Submission] = {}
    refused, times = [], []
    for path in sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")):
        log(f"scoring {path.name}")
        try:
            one = read_submission(path)
            scored[one.name], ratio = _scored(one, out / "scores" / f"{one.name}-{one.digest}")
        except PudleError as error:
            refused.append({"submission": path.name, "why": str(error)})
            continue
        accepted[one.name] = one
        times.append(
            {"machine": machine_of(one.manifest["machine"]), "estimator": one.name, RATIO: ratio}
        )
    ranks = ranked(scored)
    write_atomically(out / "leaderboard.csv", markup.csv(ranks))
    parts = [*_ranks(ranks, accepted, out / "badges"), *_times(pd.DataFrame(times))]
    if refused:
        parts += [
            "## Not ranked",
            markup.markdown_table(pd.DataFrame(refused), code=("submission",)),
        ]
    if accepted:
        parts += ["## Submissions", _submissions(accepted)]
    path = out / "leaderboard.md"
    write_atomically(path, "\n\n".join(parts) + "\n")
    return path


def _scored(one: Submission, home: Path) -> tuple[pd.DataFrame, float]:
    """Return what a submission reaches here and its time relative to the yardstick's, or raise
    PudleError.
    """
    measure_apart(one.folder, home, [one.manifest["spec"]], scores_only=True)
    submitted, again = load_folder(one.folder / PROFILE), load_folder(home / PROFILE)
    if lines := differing(
        errors(submitted, submitted.estimators[0]), errors(again, again.estimators[0])
    ):
        raise PudleError(f"{len(lines)} errors are not as submitted, the first {lines[0]}")
    return reached(again, again.estimators[0]), time_ratio(submitted, submitted.estimators[0])


def badge_name(estimator: str, family: str) -> str:
    """Return the file name of a badge."""
    return f"{estimator}-{re.sub(r'[^a-z]+', '-', family)}.svg"


def _ranks(ranks: pd.DataFrame, accepted: Mapping[str, Submission], badges: Path) -> list[str]:
    """Return a heading and a table per family, and write the badges."""
    badge = Environment(
        loader=PackageLoader("pudle.reports.leaderboard"), autoescape=True
    ).get_template("badge.svg.j2")
    parts = []
    for family, rows in families(ranks):
        shown = []
        for row in rows.itertuples():
            mark: str = "built in"
            if row.estimator in accepted:
                name, value = badge_name(row.estimator, family), f"{row.rank} of {len(rows)}"
                write_atomically(badges / name, badge.render(label=family, value=value))
                mark = markup.Markdown(f"![{value}](badges/{name})")
            shown.append(
                {
                    "rank": row.rank,
                    "estimator": row.estimator,
                    f"layers to {text.number(ERROR, 1)}": text.fixed(row.depth, 0)
                    if row.reached
                    else "not reached",
                    "in cases": f"{row.reached} of {row.cases}",
                    "error at the greatest depth": text.number(row.error),
                    "": mark,
                }
            )
        parts += [
            f"## {family[0].upper()}{family[1:]}",
            markup.markdown_table(pd.DataFrame(shown), code=("estimator",)),
        ]
    return parts


def _times(times: pd.DataFrame) -> list[str]:
    """Return the section about times, a table per machine."""
    parts = ["## Times", ABOUT_TIMES] if len(times) else []
    for machine, rows in times.groupby("machine") if len(times) else ():
        ordered = rows.sort_values(RATIO)[["estimator", RATIO]].assign(
            **{RATIO: lambda part: part[RATIO].map(_two)}
        )
        parts += [
            f"### {markup.markdown(machine)}",
            markup.markdown_table(ordered, code=("estimator",)),
        ]
    return parts


def _two(value: float) -> str:
    return text.fixed(value, 2)


def _submissions(accepted: Mapping[str, Submission]) -> str:
    rows = [
        {
            "estimator": name,
            "computes": one.manifest["computes"],
            "date": one.manifest["date"],
            "signed off by": one.manifest["signed_off_by"].partition(" <")[0],
            "pudle": one.manifest["pudle"],
        }
        for name, one in accepted.items()
    ]
    return markup.markdown_table(pd.DataFrame(rows), code=("estimator",))
