"""What a case is called where a person reads: no digests, and no two cases alike."""

import re
from itertools import combinations, product

from support.page.living_page import data, html, texts
from support.records.stored_experiments import reported
from support.records.synthetic import case, failure, record

from pudle.measuring.naming import labels, problem_labels, slug
from pudle.reports.compare import summary
from pudle.reports.compare.judge import compare

X, HEAVY = "array(path='data/x.csv', n_components=20)", "heavy.py:HeavyBall(step=0.1)"
FACTS = {"dataset": X, "algorithm": HEAVY}
NAME = "array_path_x.csv_n_components_20-93dd69eb-heavy_HeavyBall-67cd4cf5-lasso"
LABEL = "x.csv, HeavyBall(step=0.1), lasso"
DIGEST = "93dd69eb"


def made(*specs):
    """Return a case of a dataset, an algorithm and a loss with a name like that of `pudle run`."""
    facts = dict(zip(("dataset", "algorithm", "loss"), specs, strict=True))
    return case("-".join([*map(slug, specs), "3_seeds"]), problem=specs[::2], **facts)


def called(cases):
    """Return what a person calls each of some cases, and each of their problems."""
    named = dict(enumerate(cases))
    return [*labels(named).values()], [*problem_labels(named).values()]


def test_a_label_is_what_a_person_calls_a_case_and_a_problem():
    own = [made(*specs, "lasso") for specs in product([X, "digits"], [HEAVY, "ista(step=0.2)"])]
    parts = product(["x.csv", "digits"], ["HeavyBall(step=0.1)", "ista(step=0.2)"], ["lasso"])
    assert called(own) == ([*map(", ".join, parts)], ["x.csv, lasso", "digits, lasso"])


def test_no_two_cases_and_no_two_problems_are_called_alike():
    """Whichever stand together."""
    datasets, rules = (X, X.replace("data", "other"), "digits"), (HEAVY, f"other/{HEAVY}", "ista")
    every = [made(*specs) for specs in product(datasets, rules, ("lasso", "other"))]
    every.append(case("digits-ista-lasso", problem="of its own"))
    for some in (every, *combinations(every, 2)):
        for words, what in zip(called(some), ("name", "problem"), strict=True):
            assert len({*words}) == len(words) == len({each[what] for each in some})


def test_an_own_problem_has_the_name_of_its_file_or_class():
    """Neither that of the function, which is the same in every file, nor its only loss."""
    datasets = {
        "home/cleaning.py:problem": "cleaning.py",
        "cleaning.py:problem(corruption=0.3)": "cleaning.py(corruption=0.3)",
        "cleaning.py:Cleaning(corruption=0.3)": "Cleaning(corruption=0.3)",
        "given(label='StronglyConvex', number=1404)": "StronglyConvex",
    }
    for dataset, word in datasets.items():
        own = made(dataset, "gradient_descent", "own")
        assert called([own]) == ([f"{word}, gradient_descent"], [word])
    both = [made(dataset, "ista", "own") for dataset in ("a/x.py:problem", "b/x.py:problem")]
    assert called(both)[1] == ["a/x.py:problem", "b/x.py:problem"]
    # The names of a mapping that `pudle.benchmark` was given are kept.
    chosen = case("mine-ista-own", loss="own", algorithm="ista", problem=("mine", "own"))
    assert called([chosen]) == (["mine-ista-own"], ["mine"])


def test_no_digest_stands_where_a_person_reads(tmp_path):
    """In page, Markdown, LaTeX, figures, side by side, and the comparison."""
    the_case = case(NAME, **FACTS)
    records = [record(the_case, name) for name in ("backprop", "analytic")]
    base = reported(tmp_path / "base", records)
    worse = failure(the_case, "analytic", "error", "no disk")
    head = reported(tmp_path / "head", [records[0], worse])
    page = html(base, head, names=["one", "two"])
    packed = data(page)
    unpacked = re.sub(r'<script.*?</script>|value="[^"]*"', "", page, flags=re.DOTALL)
    parts = [unpacked, *texts(packed, "case", "name")]
    parts += [re.sub(r"\]\([^)]*\)", "", base.markdown()), re.sub(r"\\label.*", "", base.latex())]
    parts += [figure.alt for figure in base.pictures]
    comparison = compare(base.results, head.results)
    parts.append(summary.markdown(comparison, "base", "head", "quick"))
    assert len(comparison.cells()) > 0
    assert sum(LABEL in part for part in parts) > 10
    assert not [part for part in parts if DIGEST in part]
