"""`pudle cite`: BibTeX of the suite, of the paper whose system it measures, and of estimators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pudle.terminal import echo, home_option, profile_option

if TYPE_CHECKING:
    # Only for annotations: --help does not load torch.
    from pudle.estimator import GradientEstimator

#: The suite and the paper, as CITATION.cff has them; {version} is the installed one.
SUITE = """@software{{pudle,
  title = {{pudle: benchmarks of gradient estimators for unrolled inner algorithms}},
  author = {{{{The pudle developers}}}},
  version = {{{version}}},
  license = {{MIT}},
}}"""
PAPER_KEY = "tolooshams2022stable"
PAPER_TITLE = "Stable and Interpretable Unrolled Dictionary Learning"
PAPER = """@article{tolooshams2022stable,
  title = {Stable and Interpretable Unrolled Dictionary Learning},
  author = {Tolooshams, Bahareh and Ba, Demba},
  journal = {Transactions on Machine Learning Research},
  year = {2022},
  note = {arXiv:2106.00058},
}"""
#: What BibTeX would take for markup.
SPECIAL = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"})


def entry(reference: str, estimators: Iterable[str], used_keys: set[str]) -> str:
    """Write a reference of estimators as a BibTeX entry that prints it whole, under a key that is
    not taken yet, which is added to `used_keys`.
    """
    years = re.findall(r"\b(?:19|20)\d\d\b", reference)
    words = re.findall(r"[A-Za-z]+", reference)
    title = next((word for word in words[1:] if len(word) > 3), "")
    key = _unique_key(f"{words[0].lower()}{years[-1] if years else ''}{title.lower()}", used_keys)
    lines = [f"@misc{{{key},", f"  note = {{{reference.translate(SPECIAL)}}},"]
    if years:
        lines.append(f"  year = {{{years[-1]}}},")
    lines.append(f"  keywords = {{{', '.join(estimators).translate(SPECIAL)}}},")
    return "\n".join([*lines, "}"])


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
