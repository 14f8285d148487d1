"""`pudle cite` prints BibTeX of the suite and of what estimators rest on."""

import re

from click.testing import CliRunner
from support.records.synthetic import case, record, write

import pudle
from pudle.reports.cite import bibtex, cite_command


def test_every_reference_of_every_estimator_is_an_entry_with_a_key_of_its_own():
    classes = pudle.list_estimators()
    written = bibtex(classes.values(), "1.0")
    keys = re.findall(r"^@\w+\{([^,]+),$", written, re.MULTILINE)
    references = {reference for cls in classes.values() for reference in cls.references}
    # The paper on PUDLE is cited already.
    assert len(keys) == len({*keys}) == len(references) + 1
    assert written.count("{") - written.count("\\{") == written.count("}") - written.count("\\}")


def test_the_last_run_says_what_is_cited(tmp_path):
    write(tmp_path, [record(case(), "backprop")])
    done = CliRunner().invoke(cite_command, ["--home", str(tmp_path)])
    assert done.exit_code == 0 and "Super-efficiency of automatic differentiation" in done.stdout
    assert "@software{pudle," in done.stdout and "keywords = {backprop}" in done.stdout
    alone = CliRunner().invoke(cite_command, ["--home", str(tmp_path / "empty")])
    assert alone.exit_code == 0 and "only the suite is cited" in alone.stderr
    assert alone.stdout.count("@") == 2
