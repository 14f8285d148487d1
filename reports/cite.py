"""`pudle cite`: BibTeX of the suite, of the paper whose system it measures, and of estimators."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from pudle.terminal import echo, home_option, profile_option

if TYPE_CHECKING:
    # Only for annotations: --help does not load torch.
    from pudle.estimator import GradientEstimator

#: The suite and the paper, as CITATION.cff has them; {version} is the installed one.
SUITE = """@misc{{pudle,
  title = {{{{pudle: benchmarks of gradient estimators for unrolled inner algorithms}}}},
  author = {{{{The pudle developers}}}},
  year = {{2026}},
  note = {{Version {version}, MIT license}},
}}"""
PAPER_KEY = "tolooshams2022stable"
PAPER_TITLE = "Stable and Interpretable Unrolled Dictionary Learning"
PAPER = """@article{tolooshams2022stable,
  title = {{Stable and Interpretable Unrolled Dictionary Learning}},
  author = {Tolooshams, Bahareh and Ba, Demba},
  journal = {Transactions on Machine Learning Research},
  year = {2022},
  note = {arXiv:2106.00058},
}"""
#: What BibTeX or LaTeX would take for markup. Escaped braces would count as braces in BibTeX.
SPECIAL = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_"},
        "\\": r"\textbackslash{}",
        "{": r"\textbraceleft{}",
        "}": r"\textbraceright{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)
#: Accents as BibTeX and every LaTeX read them, by the combining character of Unicode, and letters
#: that are no accented ones.
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u ",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r ",
    "\u030b": "H ",
    "\u030c": "v ",
    "\u0327": "c ",
    "\u0328": "k ",
}
LETTERS = {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe"}
#: Conferences and journals that references call by their initials.
CONFERENCES = {
    "AAAI": "AAAI Conference on Artificial Intelligence",
    "AISTATS": "International Conference on Artificial Intelligence and Statistics",
    "ICLR": "International Conference on Learning Representations",
    "ICML": "International Conference on Machine Learning",
    "IJCAI": "International Joint Conference on Artificial Intelligence",
    "NeurIPS": "Advances in Neural Information Processing Systems",
}
JOURNALS = {
    "JMLR": "Journal of Machine Learning Research",
    "TMLR": "Transactions on Machine Learning Research",
}
#: Words in the names of journals.
JOURNAL_WORDS = re.compile(r"\b(?:Annals|Journal|Letters|Review|Transactions)\b|\bJ\.")
#: An identifier on arXiv, which begins with the year and the month.
ARXIV = re.compile(r"\barXiv[ :](?P<number>(?P<year>\d\d)\d\d\.\d{4,5})\b")
YEAR = re.compile(r"\b(?:19|20)\d\d\b")
#: The family name of an author, perhaps with others before it.
NAME = r"(?:[^\s,]+ ){0,3}[^\W\d_a-z][^\s,]*"
#: The authors of a reference: names before ``and`` and another one, before ``et al.``, or one name.
AUTHORS = (
    rf"(?P<names>{NAME}(?:, {NAME})*?) and (?P<last>{NAME})",
    rf"(?P<names>{NAME}(?:, {NAME})*?) et al\.",
    rf"(?P<names>{NAME})",
)


class Publication(NamedTuple):
    """The parts of a reference such as ``Bai and Kolter, Deep Equilibrium Models, NeurIPS 2019``;
    one that it does not name is empty.
    """

    #: Family names; ``others`` stands for those that are not named.
    authors: Sequence[str]
    title: str
    #: Conference or journal, without the year.
    venue: str
    year: str

    @classmethod
    def of(cls, reference: str) -> Publication:
        """Take a reference apart; one of another form is a title, perhaps with a year."""
        *before, end = reference.split(", ")
        arxiv, years = ARXIV.search(end), YEAR.findall(end)
        year = f"20{arxiv['year']}" if arxiv else years[-1] if years else ""
        if not year:
            return cls((), reference, "", "")
        venue = f"arXiv:{arxiv['number']}" if arxiv else " ".join(end.replace(year, "").split())
        described = ", ".join(before)
        for pattern in AUTHORS:
            if match := re.fullmatch(rf"{pattern}, (?P<title>.+)", described):
                parts = match.groupdict()
                last = [parts["last"]] if "last" in parts else []
                others = ["others"] if "et al" in pattern else []
                return cls(
                    [*parts["names"].split(", "), *last, *others], parts["title"], venue, year
                )
        return cls((), described or reference, venue if described else "", year)

    @property
    def kind(self) -> str:
        """The type of the entry in BibTeX."""
        if not self.venue:
            return "misc"
        return "inproceedings" if self.venue_field == "booktitle" else "article"

    @property
    def venue_field(self) -> str:
        """The field that the venue is in: ``journal`` or ``booktitle``."""
        known = self.venue in JOURNALS or self.venue.startswith("arXiv:")
        return "journal" if known or JOURNAL_WORDS.search(self.venue) else "booktitle"

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the publication's BibTeX entry, by name, with their values escaped: title,
        author, key (to sort by, without authors), journal or booktitle, and year. What is not known
        is an empty text.
        """
        title = escaped(self.title)
        venue = (CONFERENCES | JOURNALS).get(self.venue, self.venue)
        return {
            # Doubled braces keep capitals, as in DrMAD.
            "title": f"{{{title}}}",
            "author": escaped(" and ".join(self.authors)),
            # Styles sort by this where there is no author.
            "key": "" if self.authors else title,
            self.venue_field: escaped(venue),
            "year": self.year,
        }


def escaped(words: str) -> str:
    """Return words as BibTeX shows them: without markup, and with accents as commands, which
    sorting and old engines of LaTeX need. A letter that has no command stays as it is.
    """
    return "".join(map(_escaped_letter, unicodedata.normalize("NFC", words)))


def _escaped_letter(letter: str) -> str:
    decomposed = unicodedata.normalize("NFD", letter)
    plain, accent = decomposed[0], decomposed[1:]
    if letter in LETTERS:
        return rf"{{\{LETTERS[letter]}}}"
    if accent in ACCENTS and plain.isascii():
        # An i loses its dot below an accent.
        plain = r"\i" if plain == "i" else plain
        return rf"{{\{ACCENTS[accent]}{plain}}}"
    return letter.translate(SPECIAL)


def entry(reference: str, estimators: Iterable[str], used_keys: set[str]) -> str:
    """Write a reference of estimators as a BibTeX entry, under a key that is not taken yet, which
    is added to `used_keys`.
    """
    publication = Publication.of(reference)
    title_words = _letters_of(publication.title)
    words = [
        *("".join(_letters_of(name)) for name in publication.authors[:1]),
        publication.year,
        next((word for word in title_words if len(word) > 3), ""),
    ]
    key = _unique_key("".join(words).lower() or "reference", used_keys)
    fields = publication.fields | {"keywords": escaped(", ".join(estimators))}
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{publication.kind}{{{key},", *lines, "}"])


def _letters_of(words: str) -> list[str]:
    """Return the words of a text in plain letters, without accents."""
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
    return re.findall(r"[A-Za-z]+", plain)


def bibtex(estimators: Iterable[type[GradientEstimator]], version: str) -> str:
    """Write the suite, its paper, and the references of estimators, each once, as BibTeX with one
    blank line between entries.
    """
    cited: dict[str, list[str]] = {}
    for estimator in dict.fromkeys(estimators):
        for reference in estimator.references:
            cited.setdefault(reference, []).append(estimator.name)
    used_keys = {"pudle", PAPER_KEY}
    entries = [
        entry(reference, names, used_keys)
        for reference, names in cited.items()
        if PAPER_TITLE not in reference
    ]
    return "\n\n".join([SUITE.format(version=version), PAPER, *entries])


def _unique_key(key: str, used_keys: set[str]) -> str:
    """Return a key that is not taken yet, with a letter at its end where it is, and add it to
    `used_keys`.
    """
    letters = ("", *"bcdefghijklmnopqrstuvwxyz")
    unique: str = next(key + letter for letter in letters if key + letter not in used_keys)
    used_keys.add(unique)
    return unique


def classes_of_specs(specs: Sequence[str]) -> list[type[GradientEstimator]]:
    """Return the classes that specs name, whatever their options; an unknown name is made, which
    imports a user's file or raises SpecError.
    """
    from pudle import names

    registered = names.list_estimators()
    classes = []
    for spec in specs:
        name, _ = names.parse(spec)
        known = registered.get(name)
        classes.append(known or type(names.canonical("estimators", spec).made))
    return classes


def classes_of_last_run(home: Path, profile: str) -> list[type[GradientEstimator]]:
    """Return the installed classes of the estimators that the last run measured; no file that it
    names is opened. MissingResults says that there is no run.
    """
    from pudle import names
    from pudle.reports.load import load, parsed

    registered = names.list_estimators()
    measured = (registered.get(parsed(spec)[0]) for spec in load(home, profile).estimators)
    return [estimator for estimator in measured if estimator]


@click.command("cite")
@click.argument("specs", nargs=-1, metavar="[ESTIMATOR]...")
@profile_option
@home_option
def cite_command(specs: Sequence[str], profile: str, home: Path | None) -> None:
    """Print BibTeX of the suite, of the paper whose system it measures, and of estimators.

    Without an ESTIMATOR those of the last run of the profile are cited, if there is one.

    \b
    Examples:
      pudle cite > pudle.bib
      pudle cite backprop 'truncated(window=10)'
      pudle cite --profile default
    """
    # These import torch, which --help does not need.
    from pudle import __version__
    from pudle.errors import MissingResults
    from pudle.measuring.provenance import results_home

    estimators = classes_of_specs(specs)
    if not specs:
        try:
            estimators = classes_of_last_run(home or results_home(), profile)
        except MissingResults:
            echo("no results: only the suite is cited; name estimators to cite theirs", err=True)
    echo(bibtex(estimators, __version__))
