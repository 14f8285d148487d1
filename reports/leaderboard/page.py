"""The leaderboard as Markdown for the site, and a badge for each submission and family."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    Manifest,
    measure_apart,
    read_submission,
)

#: What submissions are ranked beside.
BUILT_IN = ("alternating", "analytic", "backprop", "truncated(window=10)", "one_step")
RATIO = "time / backprop"
BADGES = jinja2.Environment(
    loader=jinja2.PackageLoader("pudle.reports.leaderboard"), autoescape=True
).get_template("badge.svg.j2")
Rows = list[dict[str, Any]]


def write_leaderboard(folder: Path, out: Path, log: Callable[[str], None]) -> Path:
    """Score, rank, and write ``leaderboard.md``, ``leaderboard.csv`` and ``badges/``; return the
    path of the first.
    """
    log("scoring built-in estimators")
    own = out / "scores" / "built-in"
    measure_apart(Path.cwd(), own, list(BUILT_IN), scores_only=True)
    results = load_folder(own / PROFILE)
    scored = {name: reached(results, name) for name in BUILT_IN}
    accepted, refused = Rows(), Rows()
    times, families = defaultdict[str, Rows](list), defaultdict[str, Rows](list)
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        name = path.parent.name
        log(f"scoring {name}")
        try:
            manifest = read_submission(path.parent)
            again = out / "scores" / f"{name}-{manifest.digest}"
            scored[name], ratio = _scored(path.parent, manifest.spec, again)
        except PudleError as error:
            refused.append({"submission": name, "why": str(error)})
            continue
        cpu, torch = (manifest.machine.get(key, "unknown") for key in ("cpu", "torch"))
        times[f"{cpu}, torch {torch}"].append({"estimator": name, RATIO: text.fixed(ratio, 2)})
        accepted.append(described(manifest))
    ranks = ranked(scored)
    write_atomically(out / "leaderboard.csv", markup.csv(ranks))
    for row in ranks.to_dict("records"):
        family, name = row["family"], row["estimator"]
        value = f"{row['rank']} of {(ranks['family'] == family).sum()}"
        mark = "built in"
        if name not in BUILT_IN:
            badge = badge_name(name, family)
            write_atomically(out / "badges" / badge, BADGES.render(label=family, value=value))
            mark = markup.Markdown(f"![{value}](badges/{badge})")
        layers = text.fixed(row["depth"], 0) if row["reached"] else "not reached"
        families[family[0].upper() + family[1:]].append(
            {
                "rank": row["rank"],
                "estimator": name,
                f"layers to {text.number(ERROR, 1)}": layers,
                "in cases": f"{row['reached']} of {row['cases']}",
                "error at the greatest depth": text.number(row["error"]),
                "": mark,
            }
        )
    path = out / "leaderboard.md"
    shown = markup.render(
        "leaderboard.md.j2",
        families={family: pd.DataFrame(rows) for family, rows in families.items()},
        times={
            machine: pd.DataFrame(sorted(rows, key=lambda row: row[RATIO].key))
            for machine, rows in times.items()
        },
        refused=pd.DataFrame(refused),
        accepted=pd.DataFrame(accepted),
    )
    write_atomically(path, shown)
    return path


def badge_name(estimator: str, family: str) -> str:
    """Return the file name of a badge."""
    return f"{estimator}-{re.sub(r'[^a-z]+', '-', family)}.svg"


def described(manifest: Manifest) -> dict[str, str]:
    """Return what the page says of a submission."""
    return {
        "estimator": manifest.name,
        "computes": manifest.computes,
        "date": manifest.date,
        "signed off by": manifest.signed_off_by.partition(" <")[0],
        "pudle": manifest.pudle,
    }


def _scored(folder: Path, spec: str, home: Path) -> tuple[pd.DataFrame, float]:
    """Return what a submission reaches here and its time relative to the yardstick's, or raise
    PudleError.
    """
    measure_apart(folder, home, [spec], scores_only=True)
    submitted, again = load_folder(folder / PROFILE), load_folder(home / PROFILE)
    name, mine = submitted.estimators[0], again.estimators[0]
    if lines := differing(errors(submitted, name), errors(again, mine)):
        raise PudleError(f"{len(lines)} errors are not as submitted, the first {lines[0]}")
    return reached(again, mine), time_ratio(submitted, name)
