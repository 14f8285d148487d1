"""Numbers, durations, sizes and lists as text: what reports, notebooks, pages and messages show."""

from collections.abc import Callable, Sequence
from math import isfinite, isnan, log
from typing import Any, Self

DASH = "–"
STARRED = "* estimated from the costs at other depths"


def printable(text: str) -> str:
    """Return a text with escapes in place of control characters, line ends and tabs aside: a
    terminal would do what they say.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text
    )


def all_printable(content: Any) -> Any:
    """Return plain data, as read from JSON, with all their texts `printable`, names of a mapping
    too; new containers, others' are not changed.
    """
    if isinstance(content, dict):
        return {all_printable(name): all_printable(part) for name, part in content.items()}
    if isinstance(content, list):
        return [*map(all_printable, content)]
    return printable(content) if isinstance(content, str) else content


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 case``, ``2 cases``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


class Cell(str):
    """Text of a table cell, with what a table needs to know beyond the text."""

    #: Text without the details, which are remarks at its end that a page shows on lines of their
    #: own.
    head: str
    details: tuple[str, ...]
    #: Number to sort the cell by: infinite for "not reached", None where the text holds no number.
    key: float | None
    #: Estimator that the cell is about; empty if there is none.
    estimator: str
    #: Whether no other cell of its column is better.
    best: bool
    #: Name of the case that the text stands for; empty if it is the text.
    case: str

    def __new__(
        cls,
        value: str,
        estimator: str = "",
        best: bool = False,
        key: float | None = None,
        details: Sequence[str] = (),
        case: str = "",
    ) -> Self:
        """Make a cell; what is not given is taken over from `value`, where that is a cell."""
        added = "".join((" " if detail.startswith("(") else ", ") + detail for detail in details)
        cell = super().__new__(cls, f"{value}{added}")
        cell.head = getattr(value, "head", str(value))
        cell.details = (*getattr(value, "details", ()), *details)
        cell.key = getattr(value, "key", None) if key is None else key
        cell.estimator = estimator or getattr(value, "estimator", "")
        cell.best = bool(best or getattr(value, "best", False))
        cell.case = case or getattr(value, "case", "")
        return cell


def number(value: float, digits: int = 2) -> Cell:
    """Return a number with a few significant digits: ``0.83``, ``1.5e-15``; a dash where it is None
    or not finite.
    """
    if value is None or not isfinite(value):
        return Cell(DASH)
    if value == 0 or 0.01 <= abs(value) < 1e4:
        rounded = f"{value:.{digits}g}"
        return Cell(f"{float(rounded):.0f}" if "e" in rounded else rounded, key=value)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return Cell(f"{mantissa}e{int(exponent)}", key=value)


def fixed(value: float, digits: int, unit: str = "", sign: str = "") -> Cell:
    """Return a number with a fixed number of decimals: ``0.9500``, ``12%``; with its sign if `sign`
    is ``+``, and a dash for NaN.
    """
    return Cell(DASH) if isnan(value) else Cell(f"{value:{sign}.{digits}f}{unit}", key=value)


def percent(share: float) -> Cell:
    """Return a share in percent with a few significant digits."""
    percentage = number(100 * float(share))
    return percentage if percentage == DASH else Cell(f"{percentage}%", key=percentage.key)


def starred(cell: Cell, estimated: bool) -> Cell:
    """Mark a value that is estimated from others."""
    return Cell(f"{cell}*", key=cell.key) if estimated and cell != DASH else cell


def seconds(value: float) -> Cell:
    """Return a duration with its unit."""
    return _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")))


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring on one line."""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence, end, _ = paragraph.partition(". ")
    return sentence + end.strip()


def about(value: float) -> str:
    """Return the order of magnitude of a duration, such as ``10 s``, ``3 min`` or ``2 days``: the
    nearest of a few round ones, from 1 s to 10 days.
    """
    units = {"s": 1.0, "min": 60.0, "h": 3600.0, "days": 86400.0}
    sizes = {"s": (1, 3, 10, 30), "min": (1, 3, 10, 30), "h": (1, 3, 10), "days": (1, 2, 5, 10)}
    choices = [(number, unit) for unit, numbers in sizes.items() for number in numbers]
    number, unit = min(
        choices, key=lambda choice: abs(log(choice[0] * units[choice[1]] / max(value, 1e-3)))
    )
    return f"{number} {unit}" if (number, unit) != (1, "days") else "1 day"


def memory(value: float) -> Cell:
    """Return a number of bytes with its unit."""
    return _scaled(value, ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")))


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> Cell:
    """Return a value in the first of some units that it is not below, or else in the last one; a
    dash for NaN.
    """
    if isnan(value):
        return Cell(DASH)
    size, unit = next((pair for pair in units if abs(value) >= pair[0]), units[-1])
    return Cell(f"{number(value / size, 3)} {unit}", key=value)


def between(
    middle: float,
    low: float,
    high: float,
    show: Callable[[float], str] = number,
    middle_text: str | None = None,
) -> Cell:
    """Return a middle value, as `middle_text`, with its interval, left out where unknown or where
    both ends look like it. A dash stands for a middle value that is NaN.
    """
    if isnan(middle):
        return Cell(DASH)
    value, least, greatest = show(middle), show(low), show(high)
    details = () if isnan(low) or least == greatest == value else (f"({least} to {greatest})",)
    return Cell(value if middle_text is None else middle_text, key=middle, details=details)


def listing(words: Sequence[str]) -> str:
    """Join words as in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def numbers(values: Sequence[int]) -> Cell:
    """Return whole numbers in short, each once and in order: ``1, 2, 5`` for up to five, else ``1
    ... 600 (14)``, with how many there are.
    """
    values = sorted(set(values))
    if len(values) <= 5:
        return Cell(", ".join(map(str, values)), key=min(values, default=None))
    return Cell(f"{values[0]} ... {values[-1]}", key=values[0], details=(f"({len(values)})",))
