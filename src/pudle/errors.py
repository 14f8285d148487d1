"""The exceptions of the package; the text of each is one line that tells the user what to do."""

from typing import Self


class PudleError(Exception):
    """Base class of the errors that pudle raises: one line that says what is wrong, where, and what
    to do.
    """

    #: Status of what it keeps from being computed; empty for an error like any other.
    status = ""


class OutputClosed(PudleError):
    """The pipe into which the output goes is read no further."""


class InvalidArgument(PudleError, ValueError):
    """An argument is not usable; the text names it and the remedy."""


class SpecError(InvalidArgument):
    """A spec such as ``truncated(window=10)`` is malformed, or its name is unknown."""


class UnsupportedProblem(PudleError, NotImplementedError):
    """An estimator cannot treat this problem; the text says what is missing and what to use
    instead.
    """

    status = "unsupported"

    @classmethod
    def lacking(cls, who: str, need: str, substitute: str, remedy: str) -> Self:
        """Return the refusal of `who`, which needs something and gets a substitute for it."""
        return cls(f"{who} needs {need}, not {substitute}: {remedy}")


class MissingDependency(PudleError):
    """An estimator needs a library that is not installed; the text says what to install."""

    status = "skipped"


class UnreadableResult(PudleError):
    """A result file is damaged or incomplete; the text names the file."""


class UnwritableFile(PudleError):
    """A file cannot be written; the text names it and the system's reason."""


class ChangedSources(PudleError):
    """Files that a result depends on were changed after it was planned."""


class MissingResults(PudleError):
    """There are no results to report yet."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; empty where it has none."""
    return (str(error).splitlines() or [""])[0]
