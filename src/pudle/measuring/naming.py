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

#: Cases by any keys, as their fields.
Cases = Mapping[Any, Mapping[str, Any]]


def labels(cases: Cases) -> dict[Any, str]:
    """Return a label for each of some cases, given as their fields, no two alike.

    That is the name that its author chose, or ``x.csv, HeavyBall(step=0.1), lasso`` where the name
    was made of the specs.
    """
    words, texts = _words(cases), {}
    for key, case in cases.items():
        texts[key] = [case["name"]]
        if not _has_chosen_name(case):
            specs = f"{words[case['dataset']]}, {words[case['algorithm']]}, {case['loss']}"
            texts[key].insert(0, specs)
    return _distinct(texts)


def problem_labels(cases: Cases) -> dict[Any, str]:
    """Return a label for each problem of some cases, no two alike: its dataset and its loss, as in
    ``x.csv, lasso``, or ``digits-lasso`` where a case is called ``digits-ista-lasso``.
    """
    case_labels, words, texts = labels(cases), _words(cases), dict[Any, list[str]]()
    for key, case in cases.items():
        candidates = [case_labels[key]]
        # An algorithm that leads elsewhere makes a problem of its case alone.
        if case["problem"] != case["name"]:
            if _has_chosen_name(case):
                algorithm = slug(case["algorithm"].partition("(")[0])
                candidates.insert(0, re.sub(rf"-{algorithm}[\w.]*-", "-", case["name"]))
            else:
                candidates.insert(0, f"{words[case['dataset']]}, {case['loss']}")
        texts.setdefault(case["problem"], candidates)
    return _distinct(texts)


def _has_chosen_name(case: Mapping[str, Any]) -> bool:
    """Tell whether the name of a case is more than its specs in the form for files."""
    name, *specs = (case[key] for key in ("name", "dataset", "algorithm", "loss"))
    made_of_specs = name.startswith("-".join(map(slug, specs))) and name != "-".join(specs)
    return not made_of_specs and not re.search(r"-[0-9a-f]{8}(-|$)", name)


def _words(cases: Cases) -> dict[str, str]:
    """Return a label for each dataset and algorithm, by spec, that cases have: the last name of the
    file that it reads, the class in a user's file with its options, or the spec,
    as where two would read alike. It is stored text, which may be no spec.
    """
    texts = {}
    for spec in {case[key] for case in cases.values() for key in ("dataset", "algorithm")}:
        word = re.sub(r"^[^(]*[/:]", "", spec)
        if reads := re.search(r"\b(path|folder)=(['\"])(.+?)\2", spec):
            word = Path(reads[3]).name
        texts[spec] = [word, spec]
    return _distinct(texts)


def _distinct(texts: Mapping[Any, Sequence[str]]) -> dict[Any, str]:
    """Return the first of each key's texts that no other key has."""
    counts = Counter(chain(*texts.values()))
    return {key: min(candidates, key=counts.__getitem__) for key, candidates in texts.items()}


def slug(spec: str) -> str:
    """Return a spec as it stands in the name of a file: letters, digits, points and underscores, at
    most `SLUG_BYTES`.
    """
    plain = re.sub(r"(?:[^\w.]|_)+", "_", unicodedata.normalize("NFC", spec)).strip("_")
    return plain.encode()[:SLUG_BYTES].decode(errors="ignore").rstrip("_")


def short(name: str) -> str:
    """Return the name of a case, cut and with a digest of the whole where it is too long."""
    if len(name.encode()) <= 2 * SLUG_BYTES:
        return name
    beginning = name.encode()[: 2 * SLUG_BYTES - 9].decode(errors="ignore")
    return f"{beginning}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def spec_slug(spec: str, home: Path, paths: Collection[str] = ()) -> str:
    """Return a spec as it stands in the names of cases: readable, and no two specs alike.

    A digest follows where the readable part alone cannot tell two specs apart, because options
    other than plain numbers lose characters. Of a path (the options named in `paths`, and a file of
    the user's that a spec names) the readable part has the last name, and the digest the path as
    seen from `home`, the folder of the results.
    """
    if re.fullmatch(r"\w+(\([\w=., ]*\))?", spec) and len(spec.encode()) < SLUG_BYTES:
        return slug(spec)
    relative = names.placed(spec, lambda path: Path(os.path.relpath(path, home)), paths)
    name, options = names.parse(relative)
    digest = hashlib.sha256(repr((name, sorted(options.items()))).encode()).hexdigest()
    last = names.placed(spec, lambda path: Path(path.name.removesuffix(".py")), paths)
    return f"{slug(last)}-{digest[:8]}"
