"""`pudle report`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from pudle.terminal import PATH, echo, home_option, profile_option

#: Endings of the files by format, in the order in which they are written; the page comes last.
ENDINGS = {"markdown": "md", "csv": "csv", "latex": "tex", "html": "html"}
#: Formats of figures.
DRAWN = ("svg", "pdf", "png")
FORMATS = (*ENDINGS, *DRAWN)
DEFAULT = ("html", "markdown", "csv")


def _formats(context: click.Context, option: click.Parameter, values: Sequence[str]) -> list[str]:
    """Split names joined by commas, and refuse unknown ones."""
    choice, names = click.Choice(FORMATS), ",".join(values).split(",") if values else []
    return [choice.convert(name.strip(), option, context) for name in names]


def _depths(context: click.Context, option: click.Parameter, value: str | None) -> list[int]:
    """Split whole numbers joined by commas, and refuse others."""
    return [click.INT(depth, option, context) for depth in (value or "").split(",") if depth]


@click.command("report")
@click.argument("results", nargs=-1, metavar="[RESULTS]...")
@profile_option
@home_option
@click.option(
    "--out",
    type=PATH,
    help=(
        "Folder to write to [default: report, beside the results; of several, report-runs in the"
        " home folder]."
    ),
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    callback=_formats,
    metavar="NAME,...",
    help=(
        f"Formats to write: {', '.join(FORMATS)}; repeatable [default: {','.join(DEFAULT)}]. svg,"
        " pdf and png draw every figure into a file of its own, with its data as CSV; markdown then"
        " shows it."
    ),
)
@click.option(
    "--table",
    "table",
    type=click.Choice(["error"]),
    help=(
        "Write errors at some depths alone, a table per case with a row per estimator, as Markdown,"
        " CSV and LaTeX, or those of them that --format names."
    ),
)
@click.option(
    "--depths",
    callback=_depths,
    metavar="N,...",
    help="Depths of that table [default: all that were measured].",
)
@click.option("--caption", default="", help="Caption of that table in LaTeX.")
@click.option("--label", default="", help="Label of that table in LaTeX, such as tab:errors.")
def report_command(
    results: Sequence[str],
    profile: str,
    home: Path | None,
    out: Path | None,
    formats: Sequence[str],
    table: str | None,
    depths: Sequence[int],
    caption: str,
    label: str,
) -> None:
    """Write the report as a page, as tables or as figures; several RESULTS stand side by side in
    one page alone.

    RESULTS are folders with results, or commits whose results are in the home folder. The command
    prints the path of each file, the page's last. It exits with 2 if a measurement broke or a file
    is damaged; the report is still written without it and says so.

    \b
    Examples:
      pudle report
      pudle report --profile default --format latex,pdf --out paper/
      pudle report --table error --depths 50,100,200 --label tab:errors
      pudle report v0.1 v0.2 HEAD
      pudle report laptop/.asv/quick server/.asv/quick --out both/
    """
    # These import torch, which --help does not need.
    from pudle.errors import InvalidArgument
    from pudle.files import write_atomically
    from pudle.measuring.provenance import results_home
    from pudle.reports.compare.sides import folder_of, load_sides
    from pudle.reports.error_tables import error_texts
    from pudle.reports.page import page
    from pudle.reports.report import FIGURES, Report
    from pudle.reports.tables import pending_sentence

    home = home or results_home()
    sides, damaged = load_sides(results, home, profile)
    linked = [name for name in DRAWN if name in formats and not table]
    reports = {name: Report(side, linked) for name, side in sides.items()}
    first, *later_reports = reports.values()
    texts: dict[str, Callable[[], str | bytes]] = {"html": partial(page.html, reports)}
    if not later_reports:
        texts |= {"markdown": first.markdown, "csv": first.csv, "latex": first.latex}
    if table:
        texts = error_texts(first, depths, caption, label)
    chosen = formats or (texts if table or later_reports else DEFAULT)
    requested = [name for name in ENDINGS if name in chosen]
    # A table has no figures.
    if lacking := [name for name in (chosen if table else requested) if name not in texts]:
        raise InvalidArgument(
            f"--format {lacking[0]} is none of {' and '.join(texts)}, which there are for"
            f" {f'--table {table}' if table else 'several results side by side'}"
        )
    several = len({*results}) > 1
    run_folder = results and not several and folder_of(results[0], profile)
    folder = out or (run_folder or home / profile) / ("report-runs" if several else "report")
    # Everything is made before anything is written, so that an error leaves the last report as it
    # was.
    figures = {folder / FIGURES / name: content for name, content in first.figure_files()}
    stem = f"{table}s" if table else "report"
    written = {folder / f"{stem}.{ENDINGS[name]}": texts[name]() for name in requested}
    for path, content in (*figures.items(), *written.items()):
        write_atomically(path, content)
    broken = dict.fromkeys(name for report in reports.values() for name in report.broken)
    messages = []
    if broken:
        messages.append(
            f"something broke in {', '.join(broken)}: see 'Skipped, refused or failed' in the"
            " report"
        )
    messages += [pending_sentence(report.results) for report in reports.values()]
    for message in filter(None, messages + [f"left out: {line}" for line in damaged]):
        echo(message, err=True)
    for path in [folder / FIGURES, *written] if figures else written:
        echo(path)
    if broken or damaged:
        raise click.exceptions.Exit(2)
