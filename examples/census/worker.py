"""Audit the layers in a file of `packages`: `python worker.py FILE ROWS` appends a row for each to
ROWS, first one that says that it was not finished.
"""

import ast
import math
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from census import Confirmation, Known, Layer, asked, confirm
from rows import NO_GRADIENT, UNFINISHED, Row, Status, line

import pudle


def verdict_of(audit: pudle.Audit, known: Known | None) -> str:
    """Return the verdict of an audit, or `NO_GRADIENT` if that is all that is wrong, and known."""
    worst, *further = audit.parts
    missing = any(mistake.startswith("detached: ") for mistake in worst.mistakes)
    expected = known is not None and known.status == Status.SILENT
    if expected and missing and all(part.verdict == "right" for part in further):
        return NO_GRADIENT
    return audit.verdict


def status_of(verdict: str, known: Known | None, confirmed: bool) -> Status:
    """Return the status that the page may give a verdict."""
    if verdict == "right":
        return Status.RIGHT
    if verdict == "undecided":
        return Status.NO_VERDICT
    if verdict in ("wrong", NO_GRADIENT) and not confirmed:
        return Status.UNCONFIRMED
    if known and known.status == Status.SILENT and verdict != NO_GRADIENT:
        return Status.NEW
    return known.status if known else Status.NEW


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def audited(layer: Layer, row: Row) -> Row:
    """Fill a row with the verdict of an audit, and the two other ways to the gradient."""
    start = time.perf_counter()
    audit = pudle.audit(layer.function, *layer.inputs, **layer.options)
    seconds = time.perf_counter() - start
    expected, verdict = audit.parts[0].expected, verdict_of(audit, layer.known)
    try:
        ways = confirm(layer)
    except Exception as error:  # noqa: BLE001
        print(f"{row.package}, {row.layer}: not confirmed, {error}", file=sys.stderr)
        ways = Confirmation(math.nan, math.nan, math.nan)
    return replace(
        row,
        verdict=verdict,
        error=finite(audit.error),
        known_to=finite(expected.uncertainty) if expected else None,
        mistake=audit.mistake,
        seconds=round(seconds, 2),
        status=status_of(verdict, layer.known, ways.wrong),
        text=str(audit),
        known=layer.known.text if layer.known and verdict != "right" else "",
        differences=finite(ways.differences),
        other=finite(ways.other),
        apart=finite(ways.apart),
    )


def tried(build: Callable[[], Layer], row: Row) -> Row:
    """Fill a row with the verdict of an audit, or why there is none."""
    try:
        return audited(build(), row)
    except Exception as error:  # noqa: BLE001
        return replace(row, text=f"{type(error).__name__}: {error}")


def main(file: Path, rows: Path) -> None:
    # A file whose package is not there has a title all the same.
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    title = (docstring or file.stem).partition(":")[0]
    with rows.open("a", buffering=1, encoding="utf-8") as out:
        try:
            definitions = runpy.run_path(str(file))
            distributions = file.stem, *definitions.get("WITH", ()), "torch"
            versions = {name: version(name) for name in distributions}
        except Exception as error:  # noqa: BLE001
            reason = f"does not import: {type(error).__name__}: {error}"
            print(line(Row(file.stem, title, "", "all of it", reason)), file=out)
            return
        started = [
            (
                build,
                Row(file.stem, title, build.__name__, asked(build), UNFINISHED, versions=versions),
            )
            for build in definitions["LAYERS"]
        ]
        for _, row in started:
            print(line(row), file=out)
        for build, row in started:
            print(line(tried(build, row)), file=out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
