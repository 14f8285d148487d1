"""A release: what names the version agrees, and RELEASING.md's commands do as it says."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from types import SimpleNamespace

import pytest
import yaml
from support.paths import ROOT
from support.processes.repositories import git

SCRIPT = ".ci/release.py"
VERSIONED = ["CHANGELOG.md", "CITATION.cff", ".ci/conda/meta.yaml", "src/pudle/__init__.py"]
#: Pages that say how to install from the repository.
INSTALLING = ["README.md", "docs/start.md", "docs/gate.md"]
VERSION = "99.0.0"


@pytest.fixture
def release(tmp_path):
    """The script for releases, in a copy of the files that it reads."""
    for name in (*VERSIONED, *INSTALLING, "pyproject.toml", SCRIPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return SimpleNamespace(**runpy.run_path(str(tmp_path / SCRIPT)))


def test_all_that_names_the_version_agrees_and_so_does_what_zenodo_is_told():
    assert runpy.run_path(str(ROOT / SCRIPT))["contradictions"]() == []
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    told = json.loads((ROOT / ".zenodo.json").read_text())
    assert [told[key] for key in ("title", "license", "creators")] == [
        citation[key] for key in ("title", "license", "authors")
    ]


@pytest.mark.parametrize("name", VERSIONED)
def test_a_file_that_names_another_version_is_told(release, name):
    text = release.read(name).replace(release.section()[0], VERSION, 1)
    (release.ROOT / name).write_text(text)
    assert any(name in each for each in release.contradictions())


def test_the_commands_of_a_release_leave_nothing_that_speaks_against_it(release):
    release.begin(VERSION)
    assert any("no date" in each for each in release.contradictions(f"v{VERSION}"))
    for _ in range(2):
        release.address("someone/pudle", "someone@example.org")
    assert release.read("README.md").count("[![tests]") == 1
    for page in INSTALLING:
        assert release.read(page).count('"pudle @ git+https://github.com/someone/pudle"') == 1
        assert "ADDRESS" not in release.read(page)
    release.date()
    assert release.contradictions(f"v{VERSION}") == []
    assert len(release.contradictions("v1.0.0")) == 1
    release.readme()
    links = re.findall(r"\]\(([^)]+)\)", release.read("README.md"))
    assert f"https://github.com/someone/pudle/raw/v{VERSION}/docs/images/quick.png" in links
    assert all(link.startswith("https://") for link in links)
    release.write("CITATION.cff", "^date-released: .*", "date-released: 2001-01-01")
    assert len(release.contradictions()) == 1


@pytest.mark.parametrize("page", INSTALLING)
def test_pages_install_from_the_address_that_the_project_and_its_citation_name(page):
    (named,) = re.findall(r'"pudle @ git\+([^"\s]+)"', (ROOT / page).read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    address = project.get("urls", {}).get("Source", "ADDRESS")
    assert named == address == citation.get("repository-code", "ADDRESS")


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a repository to compare with")
def test_the_source_distribution_holds_the_whole_repository(tmp_path):
    git(tmp_path, "clone", "-q", ROOT, tmp_path / "clone")
    build = [sys.executable, *"-m build --sdist --no-isolation -o".split(), tmp_path / "dist"]
    subprocess.run([*build, tmp_path / "clone"], check=True, capture_output=True)
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as held:
        inside = {name.partition("/")[2] for name in held.getnames()}
    assert {*git(tmp_path / "clone", "ls-files").splitlines()} <= inside
