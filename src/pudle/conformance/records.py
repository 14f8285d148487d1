"""What checks found, as records that need no torch: the program prints them while a worker makes
them.
"""

from typing import NamedTuple


class Measured(NamedTuple):
    """A number that a check measures, and its limit."""

    number: float
    limit: float


class Distance(NamedTuple):
    """How far a gradient is from another, relative to the norm of that: reported, and held to no
    limit.

    The target is ``exact`` (that of the minimizer), ``unrolled`` or ``implicit``, the latter two at
    the given depth.
    """

    target: str
    depth: int
    error: float


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
    distances : tuple of Distance
        What the claim ``approximate`` reports in place of a limit; empty for others.
    place : str
        Where the estimator raised an error: its kind, the file and the line; empty without one.
    drawn : str
        What was drawn, if anything.
    """

    check: str
    specimen: str
    status: str
    measured: Measured | None = None
    reason: str = ""
    distances: tuple[Distance, ...] = ()
    place: str = ""
    drawn: str = ""

    @property
    def title(self) -> str:
        """The check and the specimen, as ``-k`` looks into them."""
        return f"{self.check}[{self.specimen}]"


def in_common(records: list[Record]) -> list[str]:
    """Return the options that all draws that failed have, and few of those that passed; none where
    one draw alone failed.
    """
    failed, passed = (
        [{*each.drawn.split(", ")} for each in records if each.drawn and each.status == status]
        for status in ("failed", "passed")
    )
    common = set.intersection(*failed) if len(failed) > 1 else ()
    return sorted(
        each for each in common if 2 * sum(each in other for other in passed) < len(passed)
    )


def everything_refused(records: list[Record]) -> list[Record]:
    """Return a failure if every problem on which the claim was to be checked was refused, else
    nothing.
    """
    claims = [record for record in records if record.check == "claim"]
    if {record.status for record in claims} != {"refused"}:
        return []
    reason = f"refuses every problem, so that nothing was checked: {claims[0].reason}"
    return [Record("claim", "", "failed", reason=reason)]
