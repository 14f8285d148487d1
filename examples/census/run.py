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
            process = subprocess.run(
                command, env=environment, timeout=limit, stdout=subprocess.DEVNULL, check=False
            )
            reason = f"its process ended with exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            reason = f"not finished after {limit:g} s"
        audited = stored(rows) or [Row(file.stem, file.stem, "", "all of it", UNFINISHED)]
    return [replace(row, text=reason) if row.text == UNFINISHED else row for row in audited]


def page(rows: Sequence[Row]) -> str:
    """Write the part of the page on rows: how many of which kind, the table, and notes."""
    ordered = sorted(rows, key=lambda row: ([*Status].index(row.status), row.package.lower()))
    table = HEAD + "\n".join(map(cells, ordered))
    return "\n".join(
        [headline(rows), *counts(rows), torch_versions(ordered), table, *notes(ordered)]
    )


def headline(rows: Sequence[Row]) -> str:
    """Return how many rows there are of each status, and how many of the new are wrong."""
    numbers = Counter(row.status for row in rows)
    phrases = {
        status: f"{numbers[status]} {PLURAL.get(status, status)}"
        for status in Status
        if numbers[status]
    }
    if Status.NEW in phrases:
        n_wrong = sum(row.status == Status.NEW and row.verdict == "wrong" for row in rows)
        phrases[Status.NEW] += f" ({n_wrong} of them wrong)"
    subject = f"{count_layers(rows)} layers of {count_packages(rows)} packages"
    return f"**{subject}: {', '.join(phrases.values())}.**\n"


def torch_versions(rows: Sequence[Row]) -> str:
    """Say which torch the packages were audited with: that of most, and those with another."""
    torches = {row.package: row.versions["torch"] for row in rows if row.versions}
    by_frequency = [version for version, _ in Counter(torches.values()).most_common()]
    usual, *unusual = by_frequency or ["none"]
    phrases = [f"torch {usual}"]
    for version in unusual:
        with_it = [package for package, used in torches.items() if used == version]
        phrases.append(f"{', '.join(with_it)} with {version}")
    seconds = sum(row.seconds or 0 for row in rows)
    return f"\nAudited with {'; '.join(phrases)}; in {seconds:.0f} s in all."


def count_layers(rows: Sequence[Row]) -> int:
    """Count the rows of layers; a package that does not import has a row and no layer."""
    return sum(bool(row.layer) for row in rows)


def count_packages(rows: Sequence[Row]) -> int:
    """Count the packages."""
    return len({row.file for row in rows})


def counts(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of the number of rows by status and verdict."""
    yield f"| | {' | '.join(VERDICTS)} | layers |"
    yield "| --- " * (len(VERDICTS) + 2) + "|"
    for status in (*Status, ""):
        chosen = [row for row in rows if status in ("", row.status)]
        by_verdict = Counter(row.verdict for row in chosen)
        numbers = [str(by_verdict[verdict] or "") for verdict in VERDICTS]
        if chosen:
            name = status or f"all, of {count_packages(rows)} packages"
            yield f"| {name} | {' | '.join(numbers)} | {count_layers(chosen)} |"


def cells(row: Row) -> str:
    """Return a row of the table."""
    numbers = [short(row.error), short(row.known_to)]
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    # A right gradient may have a note, which explains itself after a colon.
    mistake = row.mistake.partition(":")[0] if row.status == Status.RIGHT else row.mistake
    columns = [row.package, versions(row), row.asked, row.verdict, *numbers, mistake, seconds]
    columns.append(row.status)
    return "| " + " | ".join(text.replace("|", "\\|") for text in columns) + " |"


def versions(row: Row) -> str:
    """Return the version of a package, and those of others that matter, with their names."""
    (_, own_version), *further = row.versions.items() or [("", "")]
    further_versions = [f"{name} {version}" for name, version in further if name != "torch"]
    return ", ".join([own_version, *further_versions])


def short(number: float | None) -> str:
    """Write a number with two digits; nothing where there is none."""
    return "" if number is None else f"{number:.2g}"


def notes(rows: Sequence[Row]) -> Iterator[str]:
    """Yield notes on rows that are not right, under a heading for each status; rows of a package
    with the same note share it.
    """
    for status in [*Status][1:]:
        names_by_note: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            if row.status == status:
                names_by_note.setdefault((row.package, note(row)), []).append(row.asked)
        if names_by_note:
            yield f"\n## {status.capitalize()}\n"
        for (package, text), names in names_by_note.items():
            yield f"- **{package}: {'; '.join(names)}.** {text}"


def note(row: Row) -> str:
    """Write the note on a row."""
    sentences = [row.known] if row.known else []
    if not row.known or row.verdict == "undecided":
        sentences.append(row.text.partition("\n")[0].rstrip(".") + ".")
    if row.verdict in ("wrong", NO_GRADIENT, "undecided"):
        sentences += confirmations(row)
    return " ".join(sentences)


def confirmations(row: Row) -> Iterator[str]:
    """Yield a sentence on the two ways to the gradient that do not use the audit."""
    by_library, disagreement = short(row.other), short(row.apart)
    if row.differences is not None:
        text = f"Richardson differences are {short(row.differences)} of the norm away from it"
        if by_library:
            text += (
                f", a second computation {by_library}, and these two {disagreement} from each other"
            )
        yield f"{text}."
    elif disagreement:
        yield f"Richardson differences and a second computation are {disagreement} from each other."


def changes(before: Sequence[Row], after: Sequence[Row]) -> tuple[list[str], bool]:
    """List the differences between two censuses, and tell whether a verdict differs."""
    lines, verdict_differs = [], False
    new_rows = {(row.file, row.layer): row for row in after}
    for row in before:
        new_row = new_rows.pop((row.file, row.layer), replace(row, verdict=NONE))
        name = f"{row.package}, {row.asked}"
        if new_row.verdict != row.verdict:
            verdict_differs = True
            lines.append(f"{name}: {row.verdict} is now {new_row.verdict} ({new_row.text})")
        if new_row.versions != row.versions:
            lines.append(f"{name}: {versions(row)} is now {versions(new_row)}")
    lines += [f"new: {row.package}, {row.asked}: {row.verdict}" for row in new_rows.values()]
    return lines, verdict_differs


def written(rows: Sequence[Row], page_file: Path) -> str:
    """Return the text of a page with these rows in their place."""
    head, _, after_begin = page_file.read_text(encoding="utf-8").partition(BEGIN)
    return head + BEGIN + page(rows) + "\n" + END + after_begin.partition(END)[2]


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
    pythons = {"": sys.executable}
    pythons |= dict(argument.rpartition("=")[::2] for argument in options.python)
    files = options.files or sorted(path.stem for path in PACKAGES.glob("*.py"))
    before, after = stored(RESULTS / "census.jsonl"), list[Row]()
    for file in files:
        rows = census(PACKAGES / f"{file}.py", pythons.get(file, pythons[""]))
        print(*map(cells, rows), sep="\n", flush=True)
        after += rows
    if options.changes:
        differences, failed = changes([row for row in before if row.file in files], after)
        print("", *(differences or ["nothing has changed"]), sep="\n")
        return int(failed)
    after += [row for row in before if row.file not in files]
    after.sort(key=lambda row: row.file)
    (RESULTS / "census.jsonl").write_text("".join(line(row) + "\n" for row in after), "utf-8")
    (RESULTS / "census.md").write_text(written(after, RESULTS / "census.md"), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
