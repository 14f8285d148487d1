"""What the names in a report stand for: one sentence for each estimator, algorithm, loss and
dataset that it shows.
"""

import dataclasses
import inspect
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from pudle.data.dataset import ConvolutionalDataset, SparseCodingDataset
from pudle.names.registry import entries_named
from pudle.reports.load import Results, parsed
from pudle.text import listing

#: What a report is about, for a reader who has not met it.
ABOUT = (
    "An inner algorithm computes codes z in T layers; T is the depth. An outer loss depends on"
    " these codes and on an outer parameter (in dictionary learning: the dictionary D). An"
    " estimator approximates the gradient of this loss in the outer parameter. The exact gradient"
    " is the one at the solution of the inner problem, to which more and more layers lead."
    " Error: ‖estimate − exact gradient‖ / ‖exact gradient‖."
)
#: The inner problems of kinds of datasets, per sample x.
INNER = {
    SparseCodingDataset: "`z = argmin ½‖x − D z‖² + λ‖z‖₁`, where λ is the penalty",
    ConvolutionalDataset: (
        "`z = argmin ½‖x − D ∗ z‖² + λ‖z‖₁`, where λ is the penalty and `∗` a convolution"
    ),
}
#: Words of every report, and those of reports on dictionaries.
WORDS = {
    "layer": (
        "one iteration of an inner algorithm. Solvers that cannot be differentiated layer by layer"
        " have steps instead."
    ),
    "depth": (
        "the number T of layers or steps. Of the measured depths that reach an error, an answer"
        " names the least whose time cannot be told from the least time, which it names too."
    ),
    "case": "a dataset, an algorithm and an outer loss.",
    "problem": (
        "the cases that differ in the algorithm alone, because their algorithms lead to the same"
        " solution."
    ),
    "pair": "an estimator with an algorithm.",
    "best unrolled": (
        "the best pair among the algorithms that run layers, which solvers do not: for a program"
        " that has to be unrolled, such as a network. As for every answer, it is the fastest that"
        " reaches the error; of those that tie in time, one with the least memory, if that was"
        " measured at their depths and differs by more than its noise; where none reaches it, the"
        " most accurate, with its error."
    ),
    "tie": (
        "a pair that nothing measured tells from the answer: in time and memory or, where nothing"
        " was timed, in depth."
    ),
    "seed": "one random draw of a dataset. A case is measured on one or several.",
    "bound": "the certified error of the reference. No error is shown as smaller.",
}
DICTIONARY_WORDS = {
    "atom": "a column of the dictionary D.",
    "code": "the coefficients z of a sample x; D z is close to x.",
    "support": "the atoms whose coefficients in a code are not zero.",
    "n_features": "the dimension of a sample; of square patches it is `size` squared.",
    "n_components": "the number of atoms.",
    "penalty": "λ, the weight of the l1 norm.",
}
#: The outer losses that problems of the suite have; others are those of their own problems.
LOSSES = {
    "lasso": "the inner objective itself, `½‖x − D z‖² + λ‖z‖₁`, as a mean over samples.",
    "reconstruction": "the reconstruction error alone, `½‖x − D z‖²`, without the penalty.",
    "own": "the loss that the problem itself defines.",
}
#: What sentences say in place of words of sparse coding where no problem has codes; patterns, the
#: special ones first.
WITHOUT_CODES = {
    r" \(in dictionary learning: the dictionary D\)": "",
    r",? on their active set S\b": "",
    r"The law holds once all codes have the right signs, and can be seen": "The law can be seen",
    r"\bmeasured depths between the two\b": "measured depths up to there",
    r"\bcodes\b": "inner variables",
}
FORMULA = re.compile(r":[a-z]+:`([^`]*)`")
#: A command of LaTeX, and the letters that Unicode does not call as LaTeX does.
COMMAND = re.compile(r"\\([A-Za-z]+)")
LETTERS = {"ell": "ℓ", "lambda": "λ", "Lambda": "Λ"}


def in_words_of(results: Results, sentence: str) -> str:
    """Return a sentence in the words that fit the problems of some results: without codes and their
    active sets where no problem has any. What is code in it, between backticks, stays.
    """
    if results.has_codes:
        return sentence
    for pattern, words in WITHOUT_CODES.items():
        parts = re.split(r"(`[^`]*`)", sentence)
        parts[::2] = [re.sub(pattern, words, part) for part in parts[::2]]
        sentence = "".join(parts)
    return sentence


class Meaning(NamedTuple):
    """A name in a report, what kind of thing it names, and a sentence about it."""

    kind: str
    name: str
    sentence: str


def meanings(results: Results) -> list[Meaning]:
    """Explain the estimators, algorithms, losses and datasets of some results, each once, and where
    there are cases the words of every report.

    A name that no installed package has, and an unknown loss, is left out; no user's file is
    opened.
    """
    cases = results.cases.values()
    estimators = [*results.estimators, *(run.estimator for run in results.experiments)]
    explained = [
        *_in_words_of(results, _from_classes("estimator", estimators)),
        *_in_words_of(results, _from_classes("algorithm", (case.algorithm for case in cases))),
        *_datasets(dict.fromkeys(case.dataset for case in cases)),
    ]
    losses = dict.fromkeys(case.loss for case in cases)
    explained += [Meaning("loss", loss, LOSSES[loss]) for loss in losses if loss in LOSSES]
    if cases:
        words = WORDS | (DICTIONARY_WORDS if inner_problems(results) else {})
        explained += [Meaning("word", word, meaning) for word, meaning in words.items()]
    return explained


def _in_words_of(results: Results, explained: Iterable[Meaning]) -> Iterator[Meaning]:
    """Explain names of the suite in the words that fit the problems; what others wrote stays."""
    for meaning in explained:
        kind = entries_named(f"{meaning.kind}s", meaning.name)[meaning.name]
        is_built_in = kind.__module__.startswith("pudle.")
        words = in_words_of(results, meaning.sentence) if is_built_in else meaning.sentence
        yield meaning._replace(sentence=words)


def inner_problems(results: Results) -> list[str]:
    """Write down the inner problem of each kind of dataset in some results that has one formula, a
    sentence for each kind; the datasets are named where there are several kinds.
    """
    specs_by_kind = defaultdict(list)
    for name in dict.fromkeys(parsed(case.dataset)[0] for case in results.cases.values()):
        dataset = entries_named("datasets", name).get(name)
        for kind in INNER:
            if isinstance(dataset, type) and issubclass(dataset, kind):
                specs_by_kind[kind].append(f"`{name}`")
    if len(specs_by_kind) == 1:
        return [f"Inner problem, per sample x: {INNER[kind]}." for kind in specs_by_kind]
    return [
        f"Inner problem of {listing(specs)}, per sample x: {INNER[kind]}."
        for kind, specs in specs_by_kind.items()
    ]


def _from_classes(kind: str, specs: Iterable[str]) -> Iterator[Meaning]:
    """Explain what specs name by the first paragraph of their classes' docstrings, each name once;
    names of no installed class, or of one without a docstring, are left out. A file is not opened.
    """
    for name in dict.fromkeys(parsed(spec)[0] for spec in specs if spec):
        documented = entries_named(f"{kind}s", name).get(name)
        if sentence := first_paragraph(documented):
            yield Meaning(kind, name, sentence)


def _datasets(specs: Collection[str]) -> Iterator[Meaning]:
    """Explain the datasets that some specs name, each name once: by its class, and by its specs
    with all options, see `_whole_spec`, such as the number of samples. Names of no installed class,
    or of one without a docstring, are left out.
    """
    for meaning in _from_classes("dataset", specs):
        kind = entries_named("datasets", meaning.name)[meaning.name]
        whole_specs = [_whole_spec(kind, spec) for spec in specs if parsed(spec)[0] == meaning.name]
        yield meaning._replace(sentence=f"{meaning.sentence} Here: {listing(whole_specs)}.")


def _whole_spec(kind: type, spec: str) -> str:
    """Return a spec as code with the options that it leaves to the defaults of its class, without
    the seed, paths, and what is None.
    """
    name, set_options = parsed(spec)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    defaults = {
        field.name: field.default
        for field in fields
        if field.default not in (None, dataclasses.MISSING) and field.name != "seed"
    }
    options = (f"{key}={value!r}" for key, value in (defaults | {**set_options}).items())
    return f"`{name}({', '.join(options)})`"


def first_paragraph(documented: object) -> str:
    """Return the first paragraph of a class's docstring on one line, its markup as code and
    letters as such; an empty text for what is no class.
    """
    text = inspect.getdoc(documented) if isinstance(documented, type) else ""
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    code = FORMULA.sub(r"`\1`", paragraph).replace("``", "`")
    return COMMAND.sub(_letter, code)


def _letter(command: re.Match[str]) -> str:
    """Return the letter that a command of LaTeX stands for, such as Φ; another command as it is."""
    name = command[1]
    if name in LETTERS:
        return LETTERS[name]
    size = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return unicodedata.lookup(f"GREEK {size} LETTER {name.upper()}")
    except KeyError:
        return command[0]
