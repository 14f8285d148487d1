"""What a case is called where a person reads: no digests, and no two cases alike."""

import re

from living_page import data, html
from stored_experiments import reported
from synthetic import case, record, scores

from pudle.measuring.case import labels
from pudle.reports.compare import summary
from pudle.reports.compare.judge import compare
from pudle.reports.report import Runs

FACTS = {"dataset": "array(path='data/x.csv', n_components=20)", "algorithm": "heavy.py:HeavyBall"}
NAME = "array_path_x.csv_n_components_20-93dd69eb-heavy_HeavyBall-67cd4cf5-lasso"
LABEL = "x.csv, HeavyBall, lasso"
DIGEST = "93dd69eb"


def rates(depth, rho):
    return 0.5 * rho**depth


def test_a_label_is_what_a_person_calls_a_case_and_no_two_are_alike():
    own = {"sparse_gaussian-ista-lasso": case(), NAME: case(**FACTS)}
    assert labels(own) == {"sparse_gaussian-ista-lasso": "sparse_gaussian-ista-lasso", NAME: LABEL}
    more = case(**FACTS | {"dataset": "array(path='other/x.csv', n_components=20)"})
    both = labels({NAME: case(**FACTS), NAME.replace(DIGEST, "00000000"): more})
    assert set(both.values()) == {
        f"array(path='{folder}/x.csv', n_components=20), heavy.py:HeavyBall, lasso"
        for folder in ("data", "other")
    }
    photos = case(dataset="image_patches(folder='~/my photos')", algorithm="ista((")
    assert labels({NAME: photos}) == {NAME: "my photos, ista((, lasso"}


def shown(content):
    """Yield what a page shows of its data: all but keys by which its script finds things."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for item in content:
            yield from shown(item)
    elif isinstance(content, dict):
        for key, item in content.items():
            if key not in ("case", "name"):
                yield from shown(item)


def test_no_digest_stands_where_a_person_reads(tmp_path):
    """In page, Markdown, LaTeX, figures, side by side, and the comparison."""
    the_case = case(NAME, **FACTS)
    records = [record(the_case, name) for name in ("alternating", "backprop", "analytic")]
    base = reported(tmp_path / "base", records)
    worse = record(the_case, "analytic", scores=scores(rates))
    head = reported(tmp_path / "head", [*records[:2], worse])
    page = html(base, head, names=["one", "two"])
    packed = data(page)
    unpacked = re.sub(r'<script.*?</script>|value="[^"]*"', "", page, flags=re.DOTALL)
    parts = [Runs({"one": base, "two": head}).markdown(), unpacked, *shown(packed)]
    parts += [re.sub(r"\]\([^)]*\)", "", base.markdown()), re.sub(r"\\label.*", "", base.latex())]
    parts += [figure.title for figure in base.pictures] + [figure.alt for figure in base.pictures]
    comparison = compare(base.results, head.results)
    parts.append(summary.plain(comparison))
    parts.append(summary.markdown(comparison, "base", "head", "quick"))
    assert base.pictures and len(comparison.cells()) > 0
    assert sum(LABEL in part for part in parts) > 10
    assert not [part for part in parts if DIGEST in part]
