"""`pudle cite` prints BibTeX of the suite and of what estimators rest on."""

import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from support.paths import ROOT
from support.records.synthetic import case, record, write

import pudle
from pudle.reports.cite import bibtex, cite_command, entry, escaped


class Strange:
    """An estimator whose references have another form, and characters that are markup."""

    name = "strange_one"
    references = (r"A {x% & y}, T~^\ $1 #2, 2001", "nobody", "2020", "{")


def test_every_reference_of_every_estimator_is_an_entry_with_a_key_of_its_own():
    classes = pudle.list_estimators()
    written = bibtex(classes.values(), "1.0")
    keys = re.findall(r"^@\w+\{([^,]+),$", written, re.MULTILINE)
    references = {reference for cls in classes.values() for reference in cls.references}
    # The paper on PUDLE is cited already.
    assert len(keys) == len({*keys}) == len(references) + 1
    # What BibTeX counts, escaped or not.
    assert written.count("{") == written.count("}")


def test_an_entry_has_what_a_bibliography_sorts_and_prints_by():
    """Author, title and year; and where it appeared, where the reference says so."""
    classes = pudle.list_estimators()
    for written in bibtex(classes.values(), "1.0").split("\n\n"):
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", written, re.MULTILINE))
        assert fields.keys() >= {"author", "title", "year"}, written
        kind = re.match(r"@(\w+)", written)[1]
        venue = {"inproceedings": "booktitle", "article": "journal", "misc": None}[kind]
        assert [name for name in ("booktitle", "journal") if name in fields] == [venue] * bool(
            venue
        )


@pytest.mark.parametrize(
    "reference, kind, expected",
    [
        (
            "Bai, Kolter and Koltun, Deep Equilibrium Models, NeurIPS 2019",
            "inproceedings",
            {
                "author": "Bai and Kolter and Koltun",
                "title": "{Deep Equilibrium Models}",
                "booktitle": "Advances in Neural Information Processing Systems",
                "year": "2019",
            },
        ),
        (
            "van den Berg et al., Memory, time and error, arXiv 1604.06174",
            "article",
            {
                "author": "van den Berg and others",
                "title": "{Memory, time and error}",
                "journal": "arXiv:1604.06174",
                "year": "2016",
            },
        ),
        (
            "Müller, Trees and Forests, 2001",
            "misc",
            {"author": r"M{\"u}ller", "title": "{Trees and Forests}", "year": "2001"},
        ),
        ("our_wiki", "misc", {"title": r"{our\_wiki}", "key": r"our\_wiki"}),
    ],
)
def test_a_reference_is_taken_apart(reference, kind, expected):
    """One of another form, such as a name, is a title that styles can sort."""
    written = entry(reference, ["mine"], set())
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", written, re.MULTILINE))
    assert written.startswith(f"@{kind}{{") and fields == expected | {"keywords": "mine"}


def test_accents_are_commands_and_every_author_is_named():
    written = bibtex(pudle.list_estimators().values(), "1.0")
    assert written.isascii() and "others" not in written
    assert r"Ablin and Peyr{\'e} and Moreau" in written
    assert r"Mal{\'e}zieux and Moreau and Kowalski" in written
    assert r"Llinares-L{\'o}pez" in written and r"{Nystr{\"o}m method" in written
    assert "Fung and Heaton and Li and McKenzie and Osher and Yin" in written


@pytest.mark.parametrize(
    "words, expected",
    [
        ("Çınar", "{\\c C}ınar"),
        ("Łukasz Øre & Šíp", r"{\L}ukasz {\O}re \& {\v S}{\'\i}p"),
        ("e\u0301", r"{\'e}"),
        ("{x}_1", r"\textbraceleft{}x\textbraceright{}\_1"),
    ],
)
def test_letters_of_any_language_are_escaped(words, expected):
    assert escaped(words) == expected


@pytest.mark.skipif(not shutil.which("bibtex"), reason="needs bibtex")
@pytest.mark.parametrize("style", ["plain", "plainnat"])
def test_bibtex_has_nothing_to_say_about_the_entries(tmp_path, style):
    """Of the suite's estimators and of strange references of others."""
    written = bibtex([*pudle.list_estimators().values(), Strange], "1.0")
    (tmp_path / "pudle.bib").write_text(written)
    commands = ["citation{*}", f"bibstyle{{{style}}}", "bibdata{pudle}"]
    (tmp_path / "paper.aux").write_text("".join(f"\\{command}\n" for command in commands))
    done = subprocess.run(
        ["bibtex", "paper"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    if "couldn't open style file" in done.stdout:
        pytest.skip(f"needs {style}.bst")
    assert done.returncode == 0, done.stdout
    # References that are a name alone have no year, which is all that is said of them.
    warnings = {*re.findall(r"^Warning--(.*)", done.stdout, re.MULTILINE)}
    assert warnings <= {"empty year in nobody", "empty year in reference"}
    printed = (tmp_path / "paper.bbl").read_text()
    assert printed.count(r"\bibitem") == written.count("\n@") + 1
    # As the reference has it, capitals included, and after its authors.
    assert "DrMAD: Distilling reverse-mode" in " ".join(printed.split())
    assert r"Ablin, Peyr{\'e}, and Moreau" in " ".join(printed.replace("~", " ").split())


def test_the_year_of_the_suite_is_that_of_its_license():
    (year,) = re.findall(r"Copyright \(c\) (\d+)", (ROOT / "LICENSE").read_text())
    assert f"  year = {{{year}}},\n  note = {{Version 1.0" in bibtex([], "1.0")


def test_the_last_run_says_what_is_cited(tmp_path):
    write(tmp_path, [record(case(), "backprop")])
    done = CliRunner().invoke(cite_command, ["--home", str(tmp_path)])
    assert done.exit_code == 0 and "Super-efficiency of automatic differentiation" in done.stdout
    assert "@misc{pudle," in done.stdout and "keywords = {backprop}" in done.stdout
    alone = CliRunner().invoke(cite_command, ["--home", str(tmp_path / "empty")])
    assert alone.exit_code == 0 and "only the suite is cited" in alone.stderr
    assert alone.stdout.count("@") == 2
