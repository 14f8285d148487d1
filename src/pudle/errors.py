"""What can go wrong, as exceptions whose text is one line a user can act on."""


class PudleError(Exception):
    """Base of every error the suite raises on purpose: one line saying what, where and what to do."""


class InvalidArgument(PudleError, ValueError):
    """An argument that cannot be used; the text names it and the remedy."""


class SpecError(InvalidArgument):
    """A spec such as ``truncated(window=10)`` that cannot be read or names nothing known."""


class UnsupportedProblem(PudleError, NotImplementedError):
    """An estimator cannot treat this problem; the text says what is missing and what to use instead."""


class MissingDependency(PudleError):
    """An estimator needs a library that is not installed; the text says what to install."""


class UnreadableResult(PudleError):
    """A result file that is damaged or was half written; the text names the file."""


class MissingResults(PudleError):
    """There is nothing to report yet."""
