"""`pudle report`."""

from collections.abc import Sequence
from pathlib import Path

import click

from pudle.errors import InvalidArgument
from pudle.reports.formats import DEFAULT, DRAWN, FORMATS
from pudle.terminal import PATH, echo, home_option, profile_option


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
    "--case",
    "cases",
    multiple=True,
    metavar="GLOB",
    help="Show only cases whose name matches, and no experiments; repeatable [default: all].",
)
@click.option(
    "--width",
    type=click.FloatRange(2, 20),
    metavar="INCHES",
    help=(
        "Width of the figures that svg, pdf and png draw, such as 3.3 for a column of a paper, with"
        " letters of 8 points at that width [default: 6 inches a panel, with letters of 11 points]."
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
    help="Depths of the --table [default: all that were measured].",
)
@click.option(
    "--caption",
    default="",
    help=(
        "Caption of the --table in LaTeX; of several tables, each says at its end what tells it"
        " apart, such as its loss."
    ),
)
@click.option(
    "--label",
    default="",
    help=(
        "Label of the --table in LaTeX, such as tab:errors; several tables get tab:errors-1,"
        " tab:errors-2 and so on, in their order."
    ),
)
def report_command(
    results: Sequence[str],
    profile: str,
    home: Path | None,
    out: Path | None,
    formats: Sequence[str],
    cases: Sequence[str],
    width: float | None,
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
      pudle report --profile default --format latex,pdf --width 3.3 --out paper/
      pudle report --table error --depths 50,100,200 --label tab:errors
      pudle report v0.1 v0.2 HEAD
      pudle report laptop/.asv/quick server/.asv/quick --out both/
    """
    given = {"--depths": depths, "--caption": caption, "--label": label}
    without_table = [name for name, value in given.items() if value and not table]
    if without_table:
        raise InvalidArgument(
            f"{' and '.join(without_table)} can be given for the table of errors alone: add --table"
            " error"
        )
    if width and (table or not {*formats}.intersection(DRAWN)):
        raise InvalidArgument(
            f"--width is that of figures in files: add --format {', '.join(DRAWN[:-1])} or"
            f" {DRAWN[-1]}, and leave out --table"
        )
    # This imports torch, which --help does not need.
    from pudle.measuring.provenance import results_home
    from pudle.reports.report_files import ErrorTableRequest, ReportRequest, write_report

    written = write_report(
        ReportRequest(
            results=results,
            profile=profile,
            home=home or results_home(),
            out=out,
            formats=formats,
            error_tables=ErrorTableRequest(depths, caption, label) if table else None,
            width=width,
            cases=cases,
        )
    )
    for message in written.messages:
        echo(message, err=True)
    for path in written.paths:
        echo(path)
    if written.incomplete:
        raise click.exceptions.Exit(2)
