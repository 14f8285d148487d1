"""Provenance: a result never carries a commit that it was not measured at."""

import importlib.util
import os
import re
from pathlib import Path

import pytest
from support.processes import repositories

import pudle
from pudle.measuring.provenance import (
    PACKAGE_FOLDERS,
    NoRepository,
    git,
    installed_commit,
    repository,
)


@pytest.fixture
def checkout(tmp_path):
    return repositories.repository(tmp_path)


def test_a_checkout_that_differs_anywhere_from_what_is_installed_is_refused(checkout):
    for folder, package in PACKAGE_FOLDERS.items():
        (installed,) = importlib.util.find_spec(package).submodule_search_locations
        for file in Path(installed).rglob("*.py"):
            copy = checkout / folder / file.relative_to(installed)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    installed_commit(checkout)
    changes = {
        "src/pudle/references/lasso.py": "changed",
        "src/pudle/learning/new.py": "",
        "src/pudle/extra/__init__.py": "",
        "estimators/new.py": "",
        "bench/cases.py": "changed",
    }
    for name, content in changes.items():
        path = checkout / name
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        with pytest.raises(pudle.PudleError, match=f"{name}.*would carry the wrong commit"):
            installed_commit(checkout)
        path.unlink() if before is None else path.write_bytes(before)


def test_git_that_cannot_run_or_refuses_is_one_line(tmp_path, monkeypatch):
    refusal = "fatal: detected dubious ownership in repository at '/srv/pudle'"
    program = tmp_path / "git"
    program.write_text(
        f'#!/bin/sh\necho "{refusal}" >&2\necho "To add an exception" >&2\nexit 128\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoRepository, match=re.escape(refusal)) as caught:
        repository(tmp_path)
    assert "\n" not in str(caught.value) and "a history of commits needs one" in str(caught.value)
    program.unlink()
    with pytest.raises(NoRepository, match="git cannot be run \\(No such file or directory\\)"):
        repository(tmp_path)


@pytest.mark.parametrize(
    "setting, value, command",
    [
        ("core.fsmonitor", "{program}", "status"),
        ("core.hooksPath", "{folder}", "status"),
        ("filter.a=b.clean", "{program}", "status"),
        ("gpg.program", "{program}", "show"),
    ],
)
def test_no_program_runs_that_a_repository_names(setting, value, command, checkout, tmp_path):
    """Somebody's archive may hold a repository, in whose folder a run is started."""
    program, ran, file = tmp_path / "post-index-change", tmp_path / "ran", checkout / "file"
    attributes = checkout / ".gitattributes"
    attributes.write_text("file filter=a=b\n")
    file.write_text("1")
    repositories.git(checkout, "add", ".")
    commit = repositories.git(checkout, "cat-file", "commit", "HEAD")
    signature = "\ngpgsig -----BEGIN PGP SIGNATURE-----\n -----END PGP SIGNATURE-----\n\n"
    (tmp_path / "signed").write_text(commit.replace("\n\n", signature, 1))
    signed = repositories.git(checkout, "hash-object", "-wt", "commit", str(tmp_path / "signed"))
    repositories.git(checkout, "update-ref", "HEAD", signed)
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    program.chmod(0o755)
    repositories.git(checkout, "config", "log.showSignature", "true")
    value = value.format(program=program, folder=tmp_path)
    repositories.git(checkout, "config", setting, value)
    file.write_text("2")
    os.utime(attributes, (0, 0))
    installed_commit(checkout)
    git(checkout, "show", "--no-patch")
    assert not ran.exists()
    # It would have, and the change is seen nevertheless. Git writes its index, and runs that hook,
    # only where it finds a file whose times are not the index's: the calls above may have put them
    # in.
    os.utime(attributes, (1, 1))
    repositories.git(checkout, command)
    assert ran.exists() and installed_commit(checkout)[1]
