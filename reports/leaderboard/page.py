"""The leaderboard as Markdown for the site, and a badge for each submission and family."""

import re
import shutil
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
from pudle.reports.leaderboard import submission
from pudle.reports.leaderboard.ranking import differing, errors, ranked, reached
from pudle.reports.leaderboard.submission import MANIFEST, PROFILE, Manifest, read_submission
from pudle.workers import failure

#: What submissions are ranked beside.
BUILT_IN = ("alternating", "analytic", "backprop", "truncated(window=10)", "one_step")
TIME = f"time to it / {max(submission.DEPTHS)} layers of {submission.YARDSTICK}"
BADGES = jinja2.Environment(
    loader=jinja2.PackageLoader("pudle.reports.leaderboard"), autoescape=True
).get_template("badge.svg.j2")


def write_leaderboard(folder: Path, out: Path, log: Callable[[str], None]) -> Path:
    """Score, rank, and write ``leaderboard.md``, ``leaderboard.csv`` and ``badges/``; return the
    path of the first.
    """
    log("scoring built-in estimators")
    own = out / "scores" / "built-in"
    scored = dict(zip(BUILT_IN, _reached(Path.cwd(), own, *BUILT_IN), strict=True))
    accepted, refused = list[dict[str, Any]](), list[dict[str, Any]]()
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        name = path.parent.name
        log(f"scoring {name}")
        try:
            manifest = read_submission(path.parent)
            again = out / "scores" / f"{name}-{manifest.digest}"
            scored[name] = _scored(path.parent, manifest.spec, again)
        except Exception as error:  # noqa: BLE001  # a stranger's records hold anything
            refused.append({"submission": name, "why": failure(error)[1]})
        else:
            accepted.append(described(manifest))
    ranks = ranked(scored)
    write_atomically(out / "leaderboard.csv", markup.csv(ranks))
    rows = []
    for row in ranks.itertuples():
        value, mark = f"{row.rank} of {(ranks['family'] == row.family).sum()}", "built in"
        if row.estimator not in BUILT_IN:
            badge = badge_name(row.estimator, row.family)
            shown = BADGES.render(label=row.family, value=value)
            write_atomically(out / "badges" / badge, shown)
            mark = markup.Markdown(f"![{value}](badges/{badge})")
        rows.append(
            {
                "family": row.family,
                "rank": row.rank,
                "estimator": row.estimator,
                f"layers to {text.number(ERROR, 1)}": (
                    text.fixed(row.depth, 0) if row.reached else "not reached"
                ),
                TIME: text.fixed(row.time, 2),
                "in cases": f"{row.reached} of {row.cases}",
                "error at the greatest depth": text.number(row.error),
                "": mark,
            }
        )
    path = out / "leaderboard.md"
    tables = {"ranks": rows, "accepted": accepted, "refused": refused}
    frames = {name: pd.DataFrame(table, dtype=object) for name, table in tables.items()}
    write_atomically(path, markup.render("leaderboard.md.j2", **frames))
    return path


def badge_name(estimator: str, family: str) -> str:
    """Return the file name of a badge."""
    return f"{estimator}-{re.sub(r'[^a-z]+', '-', family)}.svg"


def described(manifest: Manifest) -> dict[str, Any]:
    """Return what the page says of a submission."""
    return {
        "estimator": manifest.name,
        "computes": manifest.computes,
        "date": manifest.date,
        "signed off by": manifest.signed_off_by.partition(" <")[0],
        "pudle": manifest.pudle,
    }


def _scored(folder: Path, spec: str, home: Path) -> pd.DataFrame:
    """Return what a submission reaches here, or raise PudleError."""
    home.mkdir(parents=True, exist_ok=True)
    # Away from all else that was handed in: libraries read settings from the working folder.
    shutil.copy(folder / submission.ESTIMATOR, home)
    if not (home / PROFILE).exists():
        submission.run_apart(home, home, "pudle", "check", spec)
    mine, _ = _reached(home, home, spec, submission.YARDSTICK)
    submitted, again = load_folder(folder / PROFILE), load_folder(home / PROFILE)
    both = [errors(each, each.estimators[0]) for each in (submitted, again)]
    if lines := differing(*both):
        raise PudleError(f"{len(lines)} errors are not as submitted, the first {lines[0]}")
    return mine


def _reached(folder: Path, home: Path, *specs: str) -> list[pd.DataFrame]:
    """Score estimators, whose specs are relative to a folder, and return what each reaches; one of
    them is the yardstick.
    """
    submission.run_apart(folder, home, submission.__name__, "score", home.resolve(), *specs)
    results = load_folder(home / PROFILE)
    yardstick = results.estimators[specs.index(submission.YARDSTICK)]
    return [reached(results, name, yardstick) for name in results.estimators]
