"""The leaderboard: ranks of submissions by the time to an error as they were scored again, by
family of problems, as Markdown for the site, and a badge for each submission and family.
"""

import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from pudle import text
from pudle.answers import ERROR, depth_to
from pudle.errors import PudleError
from pudle.files import write_atomically
from pudle.reports import markup
from pudle.reports.compare.sides import load_folder
from pudle.reports.leaderboard import submission
from pudle.reports.leaderboard.submission import MANIFEST, PROFILE, Manifest, read_submission
from pudle.reports.load import Results, Row
from pudle.workers import failure

#: What submissions are ranked beside.
BUILT_IN = ("alternating", "analytic", "backprop", "truncated(window=10)", "one_step")
TIME = f"time to it / {max(submission.DEPTHS)} layers of {submission.YARDSTICK}"
BADGES = jinja2.Environment(
    loader=jinja2.PackageLoader("pudle.reports.leaderboard"), autoescape=True
).get_template("badge.svg.j2")
#: Families of problems by the start of a case's name.
FAMILIES = {
    "penalty_selection": "penalty selection",
    "ridge": "ridge regression",
    "image_patches": "photographs",
    "": "dense dictionaries",
}
#: A submitted error may differ from ours by this factor: sums in another order can change the
#: support of a code. Below the floor both are rounding. Times that differ by less are as long.
ELSEWHERE, FLOOR = 1.25, 1e-12


def write_leaderboard(folder: Path, out: Path, log: Callable[[str], None]) -> Path:
    """Score, rank, and write ``leaderboard.md``, ``leaderboard.csv`` and ``badges/``; return the
    path of the first.
    """
    log("scoring built-in estimators")
    built_in = _reached(Path.cwd(), out / "scores" / "built-in", *BUILT_IN)
    scored = dict(zip(BUILT_IN, built_in, strict=True))
    accepted, refused = [], []
    paths = sorted(folder.glob(f"*/{MANIFEST}"))
    looks = Counter(submission.look(path.parent.name) for path in paths)
    for path in paths:
        name = path.parent.name
        log(f"scoring {name}")
        try:
            manifest = read_submission(path.parent)
            if looks[submission.look(name)] > 1:
                raise PudleError("another submission has a name that looks like this one")
            scored[name] = _scored(
                path.parent, manifest.spec, out / f"scores/{name}-{manifest.digest}"
            )
        except Exception as error:  # noqa: BLE001  # a stranger's records hold anything
            # Neither what a folder is called nor what a stranger's code says is plain text.
            why = text.printable(failure(error)[1][:500])
            refused.append({"submission": text.printable(name), "why": why})
        else:
            accepted.append(described(manifest))
    ranks = ranked(scored)
    write_atomically(out / "leaderboard.csv", markup.csv(ranks))
    rows = []
    for row in ranks.itertuples():
        value, mark = f"{row.rank} of {(ranks['family'] == row.family).sum()}", "built in"
        if row.estimator not in BUILT_IN:
            badge = f"badges/{row.estimator}-{re.sub('[^a-z]+', '-', row.family)}.svg"
            write_atomically(out / badge, BADGES.render(label=row.family, value=value))
            mark = markup.Markdown(f"![{value}]({badge})")
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
    content = {name: pd.DataFrame(table, dtype=object) for name, table in tables.items()}
    write_atomically(path, markup.render("leaderboard.md.j2", **content))
    return path


def described(manifest: Manifest) -> Row:
    """Return what the page says of a submission."""
    return {
        "estimator": manifest.name,
        "claims to compute": manifest.computes,
        "date": manifest.date,
        "signed off by": text.printable(manifest.signed_off_by.partition(" <")[0]),
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
    results = (load_folder(each / PROFILE) for each in (folder, home))
    both = [errors(each, each.estimators[0]) for each in results]
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


# -- ranks


def family(case: str, loss: str) -> str:
    """Return the family of a case: its kind of problem and its outer loss."""
    kind = next(words for start, words in FAMILIES.items() if case.startswith(start))
    return f"{kind}, {loss} loss" if loss in ("lasso", "reconstruction") else kind


def errors(results: Results, estimator: str) -> pd.Series:
    """Return the median relative error over the seeds by certified case and depth."""
    medians = {
        (case, int(depth)): median
        for case in results.cases
        if not results.badge(case)
        for depth, median, *_ in results.curve(case, estimator).spread
    }
    return pd.Series(medians, dtype=float)


def differing(submitted: pd.Series, again: pd.Series) -> list[str]:
    """Return a line for every submitted error that differs from ours by more than machines do."""
    both = pd.DataFrame({"one": submitted, "other": again})
    logs = np.log(both.clip(lower=FLOOR))
    apart = (logs["one"] - logs["other"]).abs()
    return [
        f"{case} at depth {depth}: {row.one:.3g} submitted, {row.other:.3g} here"
        for (case, depth), row in both[~(apart <= math.log(ELSEWHERE))].iterrows()
    ]


def reached(results: Results, estimator: str, yardstick: str) -> pd.DataFrame:
    """Return, for every certified case, from which depth on an estimator's error stays within
    `ERROR`, the time of a gradient there, and the last error.

    Depth and error are medians over the seeds: ``depth`` is infinite if most do not reach it, and
    ``error``, at the case's greatest depth, is infinite if most have no number there. The ``time``
    is relative to the yardstick's at that depth.
    """
    rows = []
    for name, case in results.cases.items():
        if results.badge(name):
            continue
        needs, last = [], max(case["depths"])
        curves = results.curve(name, estimator).by_seed
        for seed in case["seeds"]:
            depths, values = curves.get(seed, ([0], []))
            whole = depths[-1] == last
            needs.append((depth_to(depths, values, ERROR), values[-1]) if whole else [math.inf] * 2)
        depth, error = np.median(needs, axis=0)
        times = [results.line(name, each, "seconds").measured for each in (estimator, yardstick)]
        if last not in times[1]:
            raise PudleError(f"{submission.YARDSTICK} has no time at depth {last} of {name}")
        time = times[0].get(depth, math.inf) / times[1][last]
        rows.append([family(name, case["loss"]), name, depth, time, error])
    return pd.DataFrame(rows, columns="family case depth time error".split())


def ranked(scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rank estimators in each family by the time that they need to reach `ERROR`, see `reached`.

    Those that reach it in more cases come first, then those with the lesser geometric mean of the
    times there, in steps of a factor `ELSEWHERE`, then those with the lesser greatest error where
    they do not reach it. Equal ones share a rank. The order of two depends on no third, so that
    nobody is moved by what else is handed in.

    Returns
    -------
    DataFrame
        One row per (family, estimator): ``rank``, ``reached`` and ``cases`` (how many of how many),
        ``time``, the mean, and ``depth`` and ``error``, medians over the cases that have one. An
        estimator without any number is left out.
    """
    table = pd.concat(scored, names=["estimator"]).reset_index("estimator")
    table["steps"] = np.log(table.time) / math.log(ELSEWHERE)
    table["reached"] = np.isfinite(table["steps"])
    table["left"] = table.error.mask(table["reached"], 0.0).rank()
    groups = table.replace(math.inf, math.nan).groupby(["family", "estimator"])
    rows = groups[["depth", "error"]].median()
    steps = groups["steps"].mean()
    rows["time"] = ELSEWHERE**steps
    rows["reached"], rows["cases"] = groups["reached"].sum(), groups.size()
    order = rows.groupby([-rows["reached"], steps.round().fillna(0), groups["left"].max()]).ngroup()
    rows["rank"] = order.groupby("family").rank(method="min").astype(int)
    rows = rows.dropna(subset=["error"]).reset_index()
    return rows.sort_values(["family", "rank", "estimator"], ignore_index=True)
