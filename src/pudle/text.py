"""Numbers, durations, sizes and lists as text: what reports, notebooks, pages and messages show."""

from collections.abc import Callable, Sequence
from math import isfinite, isnan, log
from typing import Any

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


def number(value: float, digits: int = 2) -> str:
    """Write a number with a few significant digits: ``0.83``, ``1.5e-15``; a dash where it is None
    or not finite.
    """
    if value is None or not isfinite(value):
        return DASH
    if value == 0 or 0.01 <= abs(value) < 1e4:
        rounded = f"{value:.{digits}g}"
        return f"{float(rounded):.0f}" if "e" in rounded else rounded
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def fixed(value: float, digits: int, unit: str = "", sign: str = "") -> str:
    """Write a number with a fixed number of decimals: ``0.9500``, ``12%``; with its sign if `sign`
    is ``+``, and a dash for NaN.
    """
    return DASH if isnan(value) else f"{value:{sign}.{digits}f}{unit}"


def percent(share: float) -> str:
    """Write a share in percent with a few significant digits."""
    percentage = number(100 * float(share))
    return percentage if percentage == DASH else f"{percentage}%"


def starred(value: str, estimated: bool) -> str:
    """Mark a value that is estimated from others."""
    return f"{value}*" if estimated and value != DASH else value


def seconds(value: float) -> str:
    """Write a duration with its unit."""
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


def memory(value: float) -> str:
    """Write a number of bytes with its unit."""
    return _scaled(value, ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")))


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Write a value in the first of some units that it is not below, or else in the last one; a
    dash for NaN.
    """
    if isnan(value):
        return DASH
    size, unit = next((pair for pair in units if abs(value) >= pair[0]), units[-1])
    return f"{number(value / size, 3)} {unit}"


def ends(middle: float, low: float, high: float, show: Callable[[float], str] = number) -> str:
    """Write the ends of an interval around a middle value: ``(0.8 to 0.9)``; empty where they are
    unknown, or where both look like the middle value.
    """
    if isnan(middle) or isnan(low):
        return ""
    least, greatest = show(low), show(high)
    return "" if least == greatest == show(middle) else f"({least} to {greatest})"


def between(middle: float, low: float, high: float, show: Callable[[float], str] = number) -> str:
    """Write a middle value with its interval, see `ends`; a dash where it is NaN."""
    if isnan(middle):
        return DASH
    return " ".join(filter(None, (show(middle), ends(middle, low, high, show))))


def listing(words: Sequence[str]) -> str:
    """Join words as in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


#: Up to so many numbers are written one by one.
MOST_LISTED = 5


def numbers(values: Sequence[int]) -> str:
    """Write whole numbers in short, each once and in order: ``1, 2, 5`` for up to five, else ``1
    ... 600 (14)``, with how many there are.
    """
    listed, count = shortened(values)
    return f"{listed} ({count})" if count else listed


def shortened(values: Sequence[int]) -> tuple[str, int]:
    """Write the different ones of whole numbers one by one, or the least and the greatest of more
    than `MOST_LISTED`, and then count them; the count is 0 where all are written.
    """
    distinct = sorted(set(values))
    if len(distinct) <= MOST_LISTED:
        return ", ".join(map(str, distinct)), 0
    return f"{distinct[0]} ... {distinct[-1]}", len(distinct)
