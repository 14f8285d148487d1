"""A page about every result in some folders: what each holds, when and where it was measured, and
its report.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

import pudle
from pudle.errors import MissingResults, UnreadableResult
from pudle.measuring import contents
from pudle.text import count

#: Name of the list of what a run holds; every result has one.
LIST = "run.json"


def html(folders: Sequence[Path], base: Path, damaged: list[str]) -> str:
    """Return a page whose links are relative to the folder `base`, the newest result first.

    A result whose list is damaged has a row that says so, and adds a line to `damaged`.
    """
    found = sorted(
        (item for folder in folders for item in _results(folder, base, damaged)),
        key=lambda row: row["date"],
        reverse=True,
    )
    if not found:
        names = ", ".join(map(str, folders))
        raise MissingResults(
            f"no results under {names}: give folders in which some folder holds a {LIST}, as `pudle"
            " run` makes"
        )
    loader = jinja2.PackageLoader("pudle.reports.page")
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    style = loader.get_source(made, "style.css")[0]
    return made.get_template("index.html.j2").render(
        rows=found, style=style, version=pudle.__version__
    )


def _results(folder: Path, base: Path, damaged: list[str]) -> Iterator[dict[str, Any]]:
    # Unlike a pattern, this finds links that lead nowhere.
    found = [
        Path(place) / LIST
        for place, folders, files in os.walk(folder)
        if LIST in (*folders, *files)
    ]
    for path in sorted(found):
        row: dict[str, Any] = {
            "folder": os.path.relpath(path.parent, base),
            "date": "",
            "machine": "",
            "commit": "",
            "note": "",
        }
        try:
            listed = contents.RunList.read(path)
        except UnreadableResult as error:
            damaged.append(str(error))
            yield (
                row
                | dict.fromkeys(("estimators", "cases", "experiments"), 0)
                | {
                    "note": str(error),
                    "report": "",
                }
            )
            continue
        places = [place for *_, place in listed.records] + list(listed.experiments.values())
        report = path.parent / "report" / "report.html"
        yield (
            row
            | _origin(path.parent, places)
            | {
                "estimators": len({estimator for _, estimator, _ in listed.records}),
                "cases": len({case for case, *_ in listed.records}),
                "experiments": len(listed.experiments),
                "commit": listed.commit[:12],
                "report": quote(os.path.relpath(report, base)) if report.is_file() else "",
                "note": _note(path.parent, listed),
            }
        )


def _origin(folder: Path, places: Sequence[str]) -> dict[str, str]:
    """Return date and machine of the newest record that a run lists, as far as it can be read."""
    newest = {"date": "", "machine": ""}
    for place in places:
        path = folder / "store" / place
        kind: type[contents.Record] = contents.ScoreRecord
        if place.startswith("experiments/"):
            kind = contents.ExperimentRecord
        try:
            provenance = kind.read(path).provenance if path.exists() else newest
        except UnreadableResult:
            continue
        if provenance["date"] > newest["date"]:
            newest = {"date": provenance["date"], "machine": provenance["machine"] or ""}
    return newest


def _note(folder: Path, listed: contents.RunList) -> str:
    pairs = len(listed.selection.pairs) if listed.selection else 0
    there = sum((folder / "store" / place).exists() for *_, place in listed.records)
    return (
        f"{pairs - there} of {count(pairs, 'score')} still to be measured" if there < pairs else ""
    )
