"""A page about every result in some folders: what each holds, when and where it was measured, and
its report.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pudle.errors import MissingResults, UnreadableResult
from pudle.files import read_each
from pudle.measuring.contents import Record, RunList
from pudle.reports.page.page import rendered
from pudle.text import count

#: Name of the list of what a run holds; every result has one.
LIST = "run.json"


def html(folders: Sequence[Path], base: Path, damaged: list[str]) -> str:
    """Return a page whose links are relative to the folder `base`, the newest result first.

    A result whose list is damaged has a row that says so, and adds a line to `damaged`, as does a
    folder that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        damaged.append(f"{error.filename} cannot be read ({error.strerror}): let it be read")

    rows = [
        _row(Path(place), base, damaged)
        for folder in folders
        for place, *names in sorted(os.walk(folder, onerror=unreadable))
        # Unlike a pattern, this finds links that lead nowhere.
        if LIST in (*names[0], *names[1])
    ]
    if not rows:
        names = ", ".join(map(str, folders))
        raise MissingResults(
            f"no results under {names}: give folders in which some folder holds a {LIST}, as `pudle"
            " run` makes"
        )
    rows.sort(key=lambda row: row["date"], reverse=True)
    return rendered("index.html.j2", rows=rows)


def _row(place: Path, base: Path, damaged: list[str]) -> dict[str, Any]:
    """Return what the page says of the results in a folder."""
    facts = "date machine commit report note estimators cases experiments".split()
    row: dict[str, Any] = dict.fromkeys(facts, "") | {"folder": os.path.relpath(place, base)}
    try:
        listed = RunList.read(place / LIST)
    except UnreadableResult as error:
        damaged.append(str(error))
        return row | {"note": str(error)}
    store, report = place / "store", place / "report" / "report.html"
    scores = [path for *_, name in listed.records if (path := store / name).exists()]
    trained = [path for name in listed.experiments.values() if (path := store / name).exists()]
    # What cannot be read is the report's to say.
    records = read_each(scores + trained, Record.read, [])
    newest = max((each.provenance for each in records), key=lambda each: each["date"], default={})
    pairs = len(listed.selection.pairs) if listed.selection else 0
    missing = f"{pairs - len(scores)} of {count(pairs, 'score')} still to be measured"
    return row | {
        "date": newest.get("date", ""),
        "machine": newest.get("machine") or "",
        "commit": listed.commit[:12],
        "estimators": len({estimator for _, estimator, _ in listed.records}),
        "cases": len({case for case, *_ in listed.records}),
        "experiments": len(listed.experiments),
        "report": quote(os.path.relpath(report, base)) if report.is_file() else "",
        "note": missing if len(scores) < pairs else "",
    }
