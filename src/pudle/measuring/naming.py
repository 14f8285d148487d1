"""Names and labels of cases: how they are called in files, and by people. No stored number depends
on them.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from .. import names
from .case import SLUG_BYTES

#: The dataset of a problem that was given as an object.
GIVEN = "given"
#: The loss of a problem that has no name for it, as there is no other.
OWN_LOSS = "own"
#: The greatest length of a case's name, in bytes.
LONGEST = 2 * SLUG_BYTES
#: Cases by any keys, as their fields.
Cases = Mapping[Any, Mapping[str, Any]]


def labels(cases: Cases) -> dict[Any, str]:
    """Return a label for each of some cases, given as their fields, no two alike, by the same keys.

    That is the name that its author chose, or ``x.csv, HeavyBall(step=0.1), lasso`` where the name
    was made of the specs, without the loss if it is the only one, a problem's own; of two cases
    that this would call alike, each has its name instead.
    """
    words, texts = _words(cases), {}
    for key, case in cases.items():
        texts[key] = [case["name"]]
        if not _has_chosen_name(case):
            specs = f"{words[case['dataset']]}, {words[case['algorithm']]}{_loss_part(case)}"
            texts[key].insert(0, specs)
    return _distinct(texts)


def _loss_part(case: Mapping[str, Any]) -> str:
    """Return the end of a label that names the loss; empty for a problem's own one."""
    return "" if case["loss"] == OWN_LOSS else f", {case['loss']}"


def problem_labels(cases: Cases) -> dict[Any, str]:
    """Return a label for each problem of some cases, no two alike, by the field ``problem`` of the
    cases.

    It is dataset and loss, as in ``x.csv, lasso``, or ``digits-lasso`` where the first case of the
    problem is called ``digits-ista-lasso``; a problem's own loss is not named. A problem that has
    its case's own name, or whose label another has too, is called as `labels` calls the case.
    """
    case_labels, words, texts = labels(cases), _words(cases), dict[Any, list[str]]()
    for key, case in cases.items():
        candidates = [case_labels[key]]
        # An algorithm that leads elsewhere makes a problem of its case alone.
        if case["problem"] != case["name"]:
            if _has_chosen_name(case):
                algorithm = slug(case["algorithm"].partition("(")[0])
                label = re.sub(rf"-{algorithm}[\w.]*-", "-", case["name"])
                candidates.insert(0, label.removesuffix(f"-{OWN_LOSS}"))
            else:
                candidates.insert(0, f"{words[case['dataset']]}{_loss_part(case)}")
        texts.setdefault(case["problem"], candidates)
    return _distinct(texts)


def _has_chosen_name(case: Mapping[str, Any]) -> bool:
    """Tell whether the author of a case chose its name.

    A name is not chosen that begins with the slugs of dataset, algorithm and loss without being
    just these three specs, or that holds a digest of eight digits, as `spec_slug` and `short` make
    it.
    """
    name, *specs = (case[key] for key in ("name", "dataset", "algorithm", "loss"))
    made_of_specs = name.startswith("-".join(map(slug, specs))) and name != "-".join(specs)
    return not made_of_specs and not re.search(r"-[0-9a-f]{8}(-|$)", name)


def _words(cases: Cases) -> dict[str, str]:
    """Return a label for each dataset and algorithm, by spec, that cases have.

    That is its word (`word_of`) or, where two would read alike, the whole spec.
    """
    specs = {case[key] for case in cases.values() for key in ("dataset", "algorithm")}
    return _distinct({spec: [word_of(spec), spec] for spec in specs})


def word_of(spec: str) -> str:
    """Return the word that a person has for a dataset or an algorithm.

    That is the class of a problem that was given as an object, the last name of the file or folder
    that the options ``path`` or ``folder`` name, the name of a user's file that makes a problem,
    else the spec without the path of a user's file. Specs are stored text here, which may be no
    specs: nothing is parsed or imported.
    """
    if given := re.match(rf"{GIVEN}\(label=(['\"])(.+?)\1, number=", spec):
        return given[2]
    if reads := re.search(r"\b(path|folder)=(['\"])(.+?)\2", spec):
        return Path(reads[3]).name
    # The function that makes a problem is called so in every file.
    without_function = re.sub(r"^([^(]*\.py):problem(?=\(|$)", r"\1", spec)
    return re.sub(r"^[^(]*[/:]", "", without_function)


def _distinct(texts: Mapping[Any, Sequence[str]]) -> dict[Any, str]:
    """Return the first of each key's texts that no other key has; if all are shared, the first of
    those that the fewest have.
    """
    counts = Counter(chain(*texts.values()))
    return {key: min(candidates, key=counts.__getitem__) for key, candidates in texts.items()}


def slug(spec: str) -> str:
    """Return a spec as it stands in the name of a file: letters, digits, points and underscores, at
    most `SLUG_BYTES`.

    Other characters in a row become one underscore, and the end is cut off: two specs may have the
    same slug.
    """
    plain = re.sub(r"(?:[^\w.]|_)+", "_", unicodedata.normalize("NFC", spec)).strip("_")
    return plain.encode()[:SLUG_BYTES].decode(errors="ignore").rstrip("_")


def short(name: str, longest: int = LONGEST) -> str:
    """Return a name of at most `longest` bytes: a longer one is cut, and followed by eight digits
    of a digest of the whole.
    """
    if len(name.encode()) <= longest:
        return name
    beginning = name.encode()[: longest - 9].decode(errors="ignore")
    return f"{beginning}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def spec_slug(spec: str, home: Path, paths: Collection[str] = ()) -> str:
    """Return a spec as it stands in the names of cases: readable, and no two specs alike.

    A digest of eight digits follows where the readable part alone cannot tell two specs apart,
    because options other than plain numbers and words lose characters, or it is too long. Of a path
    (the options named in `paths`, and a file of the user's that a spec names) the readable part has
    the last name, and the digest the path as seen from `home`, the folder of the results. No file
    is read or imported.
    """
    if re.fullmatch(r"\w+(\([\w=., ]*\))?", spec) and len(spec.encode()) < SLUG_BYTES:
        return slug(spec)
    relative = names.move_paths(spec, lambda path: Path(os.path.relpath(path, home)), paths)
    name, options = names.parse(relative)
    digest = hashlib.sha256(repr((name, sorted(options.items()))).encode()).hexdigest()
    last = names.move_paths(spec, lambda path: Path(path.name.removesuffix(".py")), paths)
    return f"{slug(last)}-{digest[:8]}"
