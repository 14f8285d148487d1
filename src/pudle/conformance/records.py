"""What checks found, as records that need no torch: the program prints them while a worker makes
them.
"""

from typing import NamedTuple


class Measured(NamedTuple):
    """A number that a check measures, and its limit."""

    number: float
    limit: float


class Record(NamedTuple):
    """The outcome of one check on one specimen.

    Attributes
    ----------
    check : str
        A name in `CHECKS`.
    specimen : str
        PROBLEM-LOSS-ALGORITHM; empty where the estimator as a whole has failed.
    status : {"passed", "failed", "refused"}
        ``refused``: the estimator raised `UnsupportedProblem` and gave the reason.
    measured : Measured or None
        The worst number, for checks that measure.
    reason : str
        Why it failed or was refused, in one line; empty if it passed.
    place : str
        Where the estimator raised an error: its kind, the file and the line; empty without one.
    """

    check: str
    specimen: str
    status: str
    measured: Measured | None = None
    reason: str = ""
    place: str = ""

    @property
    def title(self) -> str:
        """The check and the specimen, as ``-k`` looks into them."""
        return f"{self.check}[{self.specimen}]"


def everything_refused(records: list[Record]) -> list[Record]:
    """Return a failure if every problem on which the claim was to be checked was refused, else
    nothing.
    """
    claims = [record for record in records if record.check == "claim"]
    if {record.status for record in claims} != {"refused"}:
        return []
    reason = f"refuses every problem, so that nothing was checked: {claims[0].reason}"
    return [Record("claim", "", "failed", reason=reason)]
