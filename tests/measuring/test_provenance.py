"""Provenance: a result never carries a commit that it was not measured at."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import pudle
from pudle.measuring.provenance import PACKAGE_FOLDERS, check_installed


def test_a_checkout_that_differs_anywhere_from_what_is_installed_is_refused(tmp_path):
    for folder, package in PACKAGE_FOLDERS.items():
        (installed,) = importlib.util.find_spec(package).submodule_search_locations
        for file in Path(installed).rglob("*.py"):
            copy = tmp_path / folder / file.relative_to(installed)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    check_installed(tmp_path)
    changes = {
        "src/pudle/references/lasso.py": "changed",
        "src/pudle/learning/new.py": "",
        "src/pudle/extra/__init__.py": "",
        "estimators/new.py": "",
        "bench/cases.py": "changed",
    }
    for name, content in changes.items():
        path = tmp_path / name
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        with pytest.raises(pudle.PudleError, match=f"{name}.*would carry the wrong commit"):
            check_installed(tmp_path)
        path.unlink() if before is None else path.write_bytes(before)


def test_another_project_is_not_compared(tmp_path):
    (tmp_path / "estimators").mkdir()
    (tmp_path / "estimators" / "mine.py").write_text("")
    check_installed(tmp_path)
