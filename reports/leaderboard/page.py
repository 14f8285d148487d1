"""The leaderboard as Markdown for the site, and a badge for each submission and family."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import jinja2
import pandas as pd

from pudle import text
from pudle.answers import ERROR
from pudle.errors import PudleError
from pudle.files import write_atomically
from pudle.reports import markup
from pudle.reports.compare.sides import load_folder
from pudle.reports.leaderboard.ranking import differing, errors, ranked, reached, time_ratio
from pudle.reports.leaderboard.submission import (
    MANIFEST,
    PROFILE,
    Submission,
    measure_apart,
    read_submission,
)

#: What submissions are ranked beside.
BUILT_IN = ("alternating", "analytic", "backprop", "truncated(window=10)", "one_step")
RATIO = "time / backprop"


def write_leaderboard(folder: Path, out: Path, log: Callable[[str], None]) -> Path:
    """Score, rank, and write ``leaderboard.md``, ``leaderboard.csv`` and ``badges/``; return the
    path of the first.
    """
    log("scoring built-in estimators")
    own = out / "scores" / "built-in"
    measure_apart(Path.cwd(), own, list(BUILT_IN), scores_only=True)
    results = load_folder(own / PROFILE)
    scored = {name: reached(results, name) for name in BUILT_IN}
    accepted, refused = [], []
    for path in sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")):
        log(f"scoring {path.name}")
        try:
            one = read_submission(path)
            scored[path.name], ratio = _scored(one, out / "scores" / f"{path.name}-{one.digest}")
        except PudleError as error:
            refused.append({"submission": path.name, "why": str(error)})
        else:
            accepted.append(_described(one) | {RATIO: ratio})
    ranks, names = ranked(scored), {row["estimator"] for row in accepted}
    write_atomically(out / "leaderboard.csv", markup.csv(ranks))
    loader = jinja2.PackageLoader("pudle.reports.leaderboard")
    badge = jinja2.Environment(loader=loader, autoescape=True).get_template("badge.svg.j2")
    page = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, finalize=markup.markdown
    )
    page.filters["table"] = lambda rows: markup.markdown_table(
        pd.DataFrame(rows), code=("estimator", "submission")
    )
    families: dict[str, list[dict[str, object]]] = {}
    for family, rows in ranks.groupby("family"):
        for row in rows.to_dict("records"):
            mark = "built in"
            if row["estimator"] in names:
                name, value = badge_name(row["estimator"], family), f"{row['rank']} of {len(rows)}"
                write_atomically(out / "badges" / name, badge.render(label=family, value=value))
                mark = markup.Markdown(f"![{value}](badges/{name})")
            layers = text.fixed(row["depth"], 0) if row["reached"] else "not reached"
            families.setdefault(family[0].upper() + family[1:], []).append(
                {
                    "rank": row["rank"],
                    "estimator": row["estimator"],
                    f"layers to {text.number(ERROR, 1)}": layers,
                    "in cases": f"{row['reached']} of {row['cases']}",
                    "error at the greatest depth": text.number(row["error"]),
                    "": mark,
                }
            )
    times: dict[str, list[dict[str, object]]] = {}
    for row in sorted(accepted, key=lambda row: row[RATIO]):
        timed = {"estimator": row["estimator"], RATIO: text.fixed(row.pop(RATIO), 2)}
        times.setdefault(row.pop("machine"), []).append(timed)
    shown = page.get_template("leaderboard.md.j2").render(
        families=families, times=times, refused=refused, accepted=accepted
    )
    path = out / "leaderboard.md"
    write_atomically(path, shown.strip() + "\n")
    return path


def badge_name(estimator: str, family: str) -> str:
    """Return the file name of a badge."""
    return f"{estimator}-{re.sub(r'[^a-z]+', '-', family)}.svg"


def _scored(one: Submission, home: Path) -> tuple[pd.DataFrame, float]:
    """Return what a submission reaches here and its time relative to the yardstick's, or raise
    PudleError.
    """
    measure_apart(one.folder, home, [one.manifest["spec"]], scores_only=True)
    submitted, again = load_folder(one.folder / PROFILE), load_folder(home / PROFILE)
    name, mine = submitted.estimators[0], again.estimators[0]
    if lines := differing(errors(submitted, name), errors(again, mine)):
        raise PudleError(f"{len(lines)} errors are not as submitted, the first {lines[0]}")
    return reached(again, mine), time_ratio(submitted, name)


def _described(one: Submission) -> dict[str, str]:
    """Return what the page says of a submission, and its machine."""
    machine = one.manifest["machine"]
    return {
        "estimator": one.manifest["name"],
        **{key: one.manifest[key] for key in ("computes", "date")},
        "signed off by": one.manifest["signed_off_by"].partition(" <")[0],
        "pudle": one.manifest["pudle"],
        "machine": f"{machine.get('cpu', 'unknown')}, torch {machine.get('torch', 'unknown')}",
    }
