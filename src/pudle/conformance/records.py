"""Records of checks, which need no torch: the program prints them while a worker makes them."""

from typing import NamedTuple


class Measurement(NamedTuple):
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


class CheckRecord(NamedTuple):
    """The outcome of one check on one specimen.

    Attributes
    ----------
    check : str
        A name in `CHECKS`.
    specimen : str
        PROBLEM-LOSS-ALGORITHM; empty where the estimator as a whole has failed.
    status : {"passed", "failed", "refused"}
        ``refused``: the estimator raised `UnsupportedProblem` and gave the reason.
    measured : Measurement or None
        The worst number, for checks that measure.
    reason : str
        Why it failed or was refused, in one line; empty if it passed.
    distances : tuple of Distance
        What the claim ``approximate`` reports in place of a limit; empty for others.
    place : str
        Where the estimator raised an error: its kind, the file and the line; empty without one.
    drawn : str
        The drawn options of the specimen; empty for a named one.
    loss : str
        The loss of the specimen; empty where the estimator as a whole has failed.
    compared : tuple of str
        The known mistakes that it was compared with, if it was, and none of them fits.
    """

    check: str
    specimen: str
    status: str
    measured: Measurement | None = None
    reason: str = ""
    distances: tuple[Distance, ...] = ()
    place: str = ""
    drawn: str = ""
    loss: str = ""
    compared: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The check and the specimen, as ``-k`` looks into them."""
        return f"{self.check}[{self.specimen}]"


def options_of_failures(records: list[CheckRecord]) -> list[str]:
    """Return the options that all failed draws share, and less than half of those that passed;
    none where one draw alone failed, in however many checks, or where a named specimen, which has
    no such options, failed as well.
    """
    failed, passed = _drawn_options(records, "failed"), _drawn_options(records, "passed")
    failed_draws = {record.drawn for record in records if record.status == "failed"}
    if len(failed_draws) < 2 or "" in failed_draws:
        return []
    shared = []
    for option in set.intersection(*failed):
        n_passed_with_it = sum(option in options for options in passed)
        if 2 * n_passed_with_it < len(passed):
            shared.append(option)
    return sorted(shared)


#: What drawn options are called that are no options of a dataset or an algorithm.
DRAWN_OPTIONS = {
    "noncontiguous=True": "tensors that are not contiguous in memory",
    "noncontiguous=False": "tensors that are contiguous in memory",
    "requires_grad=True": "tensors that require gradients",
    "requires_grad=False": "tensors that require no gradient",
    "warm_start=0.0": "codes that start at zero",
    "step=None": "the default step",
    "derived=True": "a class that is derived from the problem's",
    "derived=False": "a class of problems as it is",
    "unit=1.0": "data in their own unit",
}
#: The same for options with any value, by name; the value is put in.
DRAWN_NUMBERS = {
    "warm_start": "codes that start at random, of size {}",
    "depth": "{} layers at most",
    "step": "a step of {}/L",
    "unit": "data in another unit, times {}",
}


def option_in_words(option: str) -> str:
    """Say what a drawn option is, such as ``depth=12``, or that a name without a value is that of a
    dataset; options of datasets and algorithms, which `pudle list` has, stay as they are.
    """
    name, sign, value = option.partition("=")
    if not sign:
        return f"the dataset {name}"
    if name.startswith("another "):
        changed = name.removeprefix("another ")
        return f"{changed} {'changed' if value == 'True' else 'as the dataset has it'}"
    return DRAWN_OPTIONS.get(option) or DRAWN_NUMBERS.get(name, option).format(value)


def consistent_losses(records: list[CheckRecord]) -> tuple[list[str], list[str]]:
    """Return the losses for which the error vanished wherever that was checked, and those for which
    it did not somewhere, both in the order of the alphabet. A loss that is a function has no name
    that `consistent_for` could have.
    """
    nameless = "", "function"
    ran = [
        record
        for record in records
        if record.check == "consistency" and record.loss not in nameless
    ]
    failed = {record.loss for record in ran if record.status == "failed"}
    passed = {record.loss for record in ran if record.status == "passed"} - failed
    return sorted(passed), sorted(failed)


def _drawn_options(records: list[CheckRecord], status: str) -> list[set[str]]:
    """Return the drawn options of each record of a status."""
    return [
        {*record.drawn.split(", ")}
        for record in records
        if record.drawn and record.status == status
    ]


def everything_refused(records: list[CheckRecord]) -> list[CheckRecord]:
    """Return a failure, in a list, if every problem on which the claim was to be checked was
    refused, else an empty list.
    """
    claims = [record for record in records if record.check == "claim"]
    if {record.status for record in claims} != {"refused"}:
        return []
    reason = f"refuses every problem, so that nothing was checked: {claims[0].reason}"
    return [CheckRecord("claim", "", "failed", reason=reason)]
