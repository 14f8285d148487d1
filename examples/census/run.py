"""The census: audit layers of released packages, each package in a process of its own.

`python run.py` runs every file in `packages`, and writes the table of docs/results/census.md and
the rows beside it; `python run.py geomloss pot` runs two of them and keeps the rows of the others.
`--changes` writes nothing and says what differs from the stored rows; it fails if a verdict does.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rows import NO_GRADIENT, NONE, UNFINISHED, Row, Status, line, stored

HERE = Path(__file__).resolve().parent
PACKAGES, RESULTS = HERE / "packages", HERE.parents[1] / "docs" / "results"
#: Seconds for one package.
LIMIT = 900
#: What is written into the page stands between them.
BEGIN, END = "<!-- census -->\n", "<!-- end of the census -->"
VERDICTS = ("right", "inexact", "wrong", NO_GRADIENT, "undecided", NONE)
PLURAL = {
    Status.APPROXIMATION: "approximations that say so",
    Status.TICKET: "with a known ticket",
    Status.SILENT: "with no gradient, which is not said",
    Status.NO_VERDICT: "without a verdict",
}
HEAD = """
| package | version | what was asked | verdict | error | known to | mistake | seconds | status |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def census(file: Path, python: str, limit: float = LIMIT) -> list[Row]:
    """Return the rows of a package; those that were not finished say why."""
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        command = [python, str(HERE / "worker.py"), str(file), str(rows)]
        try:
            ended = subprocess.run(
                command, env=environment, timeout=limit, stdout=subprocess.DEVNULL, check=False
            )
            why = f"its process ended with exit code {ended.returncode}"
        except subprocess.TimeoutExpired:
            why = f"not finished after {limit:g} s"
        found = stored(rows) or [Row(file.stem, file.stem, "", "all of it", UNFINISHED)]
    return [replace(each, text=why) if each.text == UNFINISHED else each for each in found]


def page(rows: Sequence[Row]) -> str:
    """Return what the page says of rows: how many of which kind, the table, and notes."""
    ordered = sorted(rows, key=lambda each: ([*Status].index(each.status), each.package.lower()))
    table = HEAD + "\n".join(map(cells, ordered))
    return "\n".join([headline(rows), *counts(rows), beside(ordered), table, *notes(ordered)])


def headline(rows: Sequence[Row]) -> str:
    """Return how many rows there are of each status, and how many of the new are wrong."""
    found = Counter(each.status for each in rows)
    told = {each: f"{found[each]} {PLURAL.get(each, each)}" for each in Status if found[each]}
    if Status.NEW in told:
        wrong = sum((each.status, each.verdict) == (Status.NEW, "wrong") for each in rows)
        told[Status.NEW] += f" ({wrong} of them wrong)"
    return f"**{layers(rows)} layers of {packages(rows)} packages: {', '.join(told.values())}.**\n"


def beside(rows: Sequence[Row]) -> str:
    """Return which torch the packages were audited with: that of most, and those with another."""
    torches = {each.package: each.versions["torch"] for each in rows if each.versions}
    usual, *others = [each for each, _ in Counter(torches.values()).most_common()] or ["none"]
    told = [
        f"{', '.join(name for name, version in torches.items() if version == other)} with {other}"
        for other in others
    ]
    seconds = sum(each.seconds or 0 for each in rows)
    return f"\nAudited with {'; '.join([f'torch {usual}', *told])}; in {seconds:.0f} s in all."


def layers(rows: Sequence[Row]) -> int:
    return sum(bool(each.layer) for each in rows)


def packages(rows: Sequence[Row]) -> int:
    return len({each.file for each in rows})


def counts(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of the number of rows by status and verdict."""
    yield f"| | {' | '.join(VERDICTS)} | layers |"
    yield "| --- " * (len(VERDICTS) + 2) + "|"
    for status in (*Status, ""):
        chosen = [each for each in rows if status in ("", each.status)]
        found = Counter(each.verdict for each in chosen)
        numbers = [str(found[each] or "") for each in VERDICTS]
        if chosen:
            name = status or f"all, of {packages(rows)} packages"
            yield f"| {name} | {' | '.join(numbers)} | {layers(chosen)} |"


def cells(row: Row) -> str:
    """Return a row of the table."""
    numbers = [short(row.error), short(row.known_to)]
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    # A right gradient may have a note, which explains itself after a colon.
    mistake = row.mistake.partition(":")[0] if row.status == Status.RIGHT else row.mistake
    told = [row.package, versions(row), row.asked, row.verdict, *numbers, mistake, seconds]
    return "| " + " | ".join(each.replace("|", "\\|") for each in (*told, row.status)) + " |"


def versions(row: Row) -> str:
    """Return the version of a package, and those of others that matter, with their names."""
    first, *others = row.versions.items() or [("", "")]
    shown = [" ".join(each) for each in others if each[0] != "torch"]
    return ", ".join([first[1], *shown])


def short(number: float | None) -> str:
    return "" if number is None else f"{number:.2g}"


def notes(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what is said of rows that are not right, under a heading for each status; rows of a
    package of which the same is said share it.
    """
    for status in [*Status][1:]:
        said: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            if row.status == status:
                said.setdefault((row.package, note(row)), []).append(row.asked)
        if said:
            yield f"\n## {status.capitalize()}\n"
        for (package, text), names in said.items():
            yield f"- **{package}: {'; '.join(names)}.** {text}"


def note(row: Row) -> str:
    """Return what is said of a row."""
    told = [row.known] if row.known else []
    if not row.known or row.verdict == "undecided":
        told.append(row.text.partition("\n")[0].rstrip(".") + ".")
    if row.verdict in ("wrong", NO_GRADIENT, "undecided"):
        told += ways(row)
    return " ".join(told)


def ways(row: Row) -> Iterator[str]:
    """Yield what the two ways say that do not use the audit."""
    other, apart = short(row.other), short(row.apart)
    if row.differences is not None:
        told = f"Richardson differences are {short(row.differences)} of the norm away from it"
        second = f", a second computation {other}, and these two {apart} from each other"
        yield told + second * bool(other) + "."
    elif apart:
        yield f"Richardson differences and a second computation are {apart} from each other."


def changes(before: Sequence[Row], after: Sequence[Row]) -> tuple[list[str], bool]:
    """Return what differs between two censuses, and whether a verdict does."""
    found, verdicts = [], False
    now = {(each.file, each.layer): each for each in after}
    for row in before:
        other = now.pop((row.file, row.layer), replace(row, verdict=NONE))
        name = f"{row.package}, {row.asked}"
        if other.verdict != row.verdict:
            verdicts = True
            found.append(f"{name}: {row.verdict} is now {other.verdict} ({other.text})")
        if other.versions != row.versions:
            found.append(f"{name}: {versions(row)} is now {versions(other)}")
    found += [f"new: {each.package}, {each.asked}: {each.verdict}" for each in now.values()]
    return found, verdicts


def written(rows: Sequence[Row], page_file: Path) -> str:
    """Return the text of a page with these rows in their place."""
    head, _, rest = page_file.read_text(encoding="utf-8").partition(BEGIN)
    return head + BEGIN + page(rows) + "\n" + END + rest.partition(END)[2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", help="names of files in packages; by default all")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="[FILE=]PATH",
        help="the Python that audits all files, or one whose package does not agree with others",
    )
    parser.add_argument(
        "--changes", action="store_true", help="only say what differs from the stored rows"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    pythons = {"": sys.executable} | dict(each.rpartition("=")[::2] for each in options.python)
    files = options.files or sorted(each.stem for each in PACKAGES.glob("*.py"))
    before, after = stored(RESULTS / "census.jsonl"), list[Row]()
    for file in files:
        found = census(PACKAGES / f"{file}.py", pythons.get(file, pythons[""]))
        print(*map(cells, found), sep="\n", flush=True)
        after += found
    if options.changes:
        told, failed = changes([each for each in before if each.file in files], after)
        print("", *(told or ["nothing has changed"]), sep="\n")
        return int(failed)
    after = sorted(
        [*(each for each in before if each.file not in files), *after], key=lambda each: each.file
    )
    (RESULTS / "census.jsonl").write_text("".join(line(each) + "\n" for each in after), "utf-8")
    (RESULTS / "census.md").write_text(written(after, RESULTS / "census.md"), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
