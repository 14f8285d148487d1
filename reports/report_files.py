"""The files of a report: which ones a request asks for, what they hold, and where they go."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pudle import text
from pudle.errors import InvalidArgument
from pudle.files import Content, write_together
from pudle.reports.compare.sides import folder_of, load_sides
from pudle.reports.error_tables import error_texts
from pudle.reports.formats import DEFAULT, DRAWN, ENDINGS
from pudle.reports.page import page
from pudle.reports.report import FIGURES, Report, Reports
from pudle.reports.tables import pending_sentence

#: Functions that write each format.
Writers = Mapping[str, Callable[[], Content]]


class ErrorTableRequest(NamedTuple):
    """The tables of errors at some depths, all where none is named; empty texts ask for the usual
    caption and label.
    """

    depths: Sequence[int] = ()
    caption: str = ""
    label: str = ""


@dataclass(frozen=True)
class ReportRequest:
    """What `pudle report` is asked for.

    Attributes
    ----------
    results : sequence of str
        Folders with results, or commits whose results are in the home folder; none stands for the
        last run of the profile.
    formats : sequence of str
        Empty for those that are usual.
    error_tables : ErrorTableRequest, optional
        Asks for these tables alone.
    width : float, optional
        Width of figures that are files, in inches; that of a screen if not given.
    cases : sequence of str
        Patterns of the names of cases to show; all without any.
    """

    results: Sequence[str]
    profile: str
    home: Path
    out: Path | None = None
    formats: Sequence[str] = ()
    error_tables: ErrorTableRequest | None = None
    width: float | None = None
    cases: Sequence[str] = ()

    @property
    def has_several_sides(self) -> bool:
        """Whether different results stand side by side."""
        return len({*self.results}) > 1

    @property
    def folder(self) -> Path:
        """The folder to write to: by default ``report`` beside the results or, of several,
        ``report-runs`` in the home folder.
        """
        if self.out:
            return self.out
        if self.has_several_sides:
            return self.home / self.profile / "report-runs"
        beside = folder_of(self.results[0], self.profile) if self.results else None
        return (beside or self.home / self.profile) / "report"


class WrittenReport(NamedTuple):
    """What was written, and what the reader has to know."""

    #: The folder of the figures, if there are any, and the files, the page's last.
    paths: Sequence[Path]
    messages: Sequence[str]
    #: Whether a measurement broke, or a file is damaged.
    incomplete: bool


def write_report(request: ReportRequest) -> WrittenReport:
    """Load the results that a request names and write their report: one page for all of them, or
    the other formats of a single one.

    Figures in files are those of the first results alone. All is made before anything takes its
    place, so that an error leaves the last report as it was. Figures of the last report that this
    one does not have stay.

    Raises
    ------
    InvalidArgument
        If the request names a format or a depth that there is not.
    """
    with garbage_collection_paused():
        return _write_report(request)


def _write_report(request: ReportRequest) -> WrittenReport:
    """Do what `write_report` does, apart from the pause of the garbage collection."""
    sides, damaged = load_sides(request.results, request.home, request.profile)
    if request.cases:
        sides = {name: side.having_cases(request.cases) for name, side in sides.items()}
    # A table has no figures.
    linked = [name for name in DRAWN if name in request.formats and not request.error_tables]
    reports = {name: Report(side, linked, request.width) for name, side in sides.items()}
    writers = _writers(request, reports)
    formats = _requested_formats(request, writers)
    stem = "errors" if request.error_tables else "report"
    first, *_ = reports.values()
    with write_together() as write:
        figures = []
        for name, content in first.figure_files():
            figures.append(request.folder / FIGURES / name)
            write(figures[-1], content)
        paths = [request.folder / FIGURES] if figures else []
        for name in formats:
            paths.append(request.folder / f"{stem}.{ENDINGS[name]}")
            write(paths[-1], writers[name]())
    broken = [*dict.fromkeys(name for report in reports.values() for name in report.broken)]
    messages = _messages(reports.values(), broken, damaged)
    return WrittenReport(paths, messages, bool(broken or damaged))


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Let no search for circular garbage run in this context: a report makes none that counts, and
    going through the millions of objects of a large store takes a fifth of its time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _writers(request: ReportRequest, reports: Reports) -> Writers:
    """Return the formats that a request can have: several sides are shown on a page alone, and
    tables of errors, which are those of the first side, not on it.
    """
    first, *other_sides = reports.values()
    if request.error_tables:
        return error_texts(first, *request.error_tables)
    writers: dict[str, Callable[[], Content]] = {"html": partial(page.html, reports)}
    if not other_sides:
        writers |= {"markdown": first.markdown, "csv": first.csv_parts, "latex": first.latex}
    return writers


def _requested_formats(request: ReportRequest, writers: Writers) -> list[str]:
    """Return the formats of texts to write, in the order of `ENDINGS`, or refuse what a table or
    several sides do not have.
    """
    if request.formats:
        formats = request.formats
    elif request.error_tables or "markdown" not in writers:
        formats = [*writers]
    else:
        formats = DEFAULT
    texts = [name for name in ENDINGS if name in formats]
    needed = formats if request.error_tables else texts
    if lacking := [name for name in needed if name not in writers]:
        if request.error_tables:
            known = text.listing([*writers])
            raise InvalidArgument(
                f"--format {lacking[0]} cannot hold a table of errors, as {known}"
                " can: give one of these, or leave out --table to write the report and figures"
            )
        raise InvalidArgument(
            f"--format {lacking[0]} cannot show several results side by side, as"
            f" {text.listing([*writers])} can: give that, or the results of one run"
        )
    return texts


def _messages(
    reports: Iterable[Report], broken: Sequence[str], damaged: Sequence[str]
) -> list[str]:
    """Say what broke, what is still to be measured, and what was left out."""
    messages = []
    if broken:
        messages.append(
            f"something broke in {', '.join(broken)}: see 'Skipped, refused or failed' in the"
            " report"
        )
    messages += filter(None, (pending_sentence(report.results) for report in reports))
    return messages + [f"left out: {line}" for line in damaged]
