"""The leaderboard as Markdown for the site, and a badge for each submission and family."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader

from pudle.errors import PudleError
from pudle.files import write_atomically
from pudle.reports import text
from pudle.reports.compare.sides import load_folder
from pudle.reports.leaderboard.ranking import accuracy_ranks, differing, errors, families, machine_of, time_ratios
from pudle.reports.leaderboard.scoring import measure_apart
from pudle.reports.leaderboard.submission import MANIFEST, PROFILE, Submission, read_submission

#: What submissions are ranked beside.
BUILT_IN = ("alternating", "analytic", "backprop", "truncated(window=10)", "one_step")
COLUMNS = ("rank", "estimator", "mean rank", "error at the greatest depth", "cells", "")


def write_leaderboard(folder: Path, out: Path, log: Callable[[str], None]) -> Path:
    """Score, rank, and write ``leaderboard.md``, ``leaderboard.csv`` and ``badges/``; return the path of the first."""
    refused: dict[str, str] = {}
    submissions: list[Submission] = []
    for path in sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")):
        try:
            submissions.append(read_submission(path))
        except PudleError as error:
            refused[path.name] = str(error)
    log("scoring built-in estimators")
    own = out / "scores" / "built-in"
    measure_apart(Path.cwd(), own, list(BUILT_IN), scores_only=True)
    results = load_folder(own / PROFILE)
    scored = {name: errors(results, name) for name in BUILT_IN}
    times = []
    for one in submissions:
        log(f"scoring {one.name}")
        home, spec = out / "scores" / f"{one.name}-{one.digest}", one.manifest["spec"]
        try:
            measure_apart(one.folder, home, [spec], scores_only=True)
            submitted, again = load_folder(one.folder / PROFILE), load_folder(home / PROFILE)
            table = errors(again, again.estimators[0])
            if lines := differing(errors(submitted, submitted.estimators[0]), table):
                raise PudleError(f"{len(lines)} errors are not as submitted, the first {lines[0]}")
        except PudleError as error:
            refused[one.name] = str(error)
            continue
        scored[one.name] = table
        ratio = time_ratios(submitted, submitted.estimators[0])
        times.append({"machine": machine_of(one.manifest["machine"]), "estimator": one.name, "time / backprop": ratio})
    ranks = accuracy_ranks(scored)
    write_atomically(out / "leaderboard.csv", text.csv(ranks))
    path = out / "leaderboard.md"
    write_atomically(path, _markdown(ranks, pd.DataFrame(times), refused, {one.name: one for one in submissions}, out))
    return path


def badge_name(estimator: str, family: str) -> str:
    """Return the file name of a badge."""
    return f"{estimator}-{re.sub(r'[^a-z]+', '-', family)}.svg"


def _markdown(
    ranks: pd.DataFrame, times: pd.DataFrame, refused: dict[str, str], submissions: dict[str, Submission], out: Path
) -> str:
    badge = Environment(loader=PackageLoader("pudle.reports", "templates"), autoescape=True).get_template("badge.svg.j2")
    parts = []
    for family, rows in families(ranks):
        shown = []
        for row in rows.itertuples():
            mark = "built in"
            if row.estimator in submissions:
                name, value = badge_name(row.estimator, family), f"{row.rank} of {len(rows)}"
                write_atomically(out / "badges" / name, badge.render(label=family, value=value))
                mark = f"![{value}](badges/{name})"
            cells = f"{row.measured} of {row.cells}"
            shown.append((row.rank, f"`{row.estimator}`", f"{row.mean_rank:.2f}", text.number(row.error), cells, mark))
        parts += [f"## {family[0].upper()}{family[1:]}\n", _table(COLUMNS, shown)]
    if len(times):
        parts.append(
            "## Times\n\nRelative to `backprop` in the same submission; machines are not compared with each other.\n"
        )
        for machine, rows in times.groupby("machine"):
            ordered = rows.sort_values("time / backprop")
            lines = [(f"`{row[2]}`", text.fixed(row[3], 2)) for row in ordered.itertuples()]
            parts += [f"### {machine}\n", _table(("estimator", "time / backprop"), lines)]
    if refused:
        parts += ["## Not ranked\n", _table(("submission", "why"), [(f"`{name}`", why) for name, why in refused.items()])]
    if submissions:
        signed = [(f"`{name}`", one.manifest["computes"], one.manifest["signed_off_by"].partition(" <")[0],
                   one.manifest["date"], one.manifest["pudle"]) for name, one in submissions.items()]  # fmt: skip
        parts += ["## Submissions\n", _table(("estimator", "computes", "signed off by", "date", "pudle"), signed)]
    return "\n".join(parts)


def _table(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"
