"""The scripts of the gallery have titles, use public names alone, and run within a minute."""

import ast
import os
import subprocess
import sys

import pytest
from support.paths import GALLERY, ROOT

import pudle

#: Modules for plug-ins, which this page explains.
EXPLAINED = (ROOT / "docs" / "add_an_estimator.md").read_text()
#: Processor seconds.
MINUTE = 60


def public(node):
    """Return whether a node of a script's tree names nothing of pudle but what is public."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pudle"):
        return node.module != "pudle" and node.module in EXPLAINED
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id != "pudle" or node.attr in pudle.__all__
    return True


@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_a_script_has_a_title_and_uses_public_names_alone(script):
    tree = ast.parse(script.read_text())
    title, line, *_ = (ast.get_docstring(tree) or "").splitlines()
    assert line == "=" * len(title)
    assert not [ast.unparse(node) for node in ast.walk(tree) if not public(node)]


@pytest.mark.nightly
@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_a_script_runs_within_a_minute(script, tmp_path):
    before = os.times()
    environment = os.environ | {"MPLBACKEND": "Agg"}
    command = [sys.executable, script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = os.times()
    spent = [
        getattr(after, kind) - getattr(before, kind)
        for kind in ("children_user", "children_system")
    ]
    assert sum(spent) < MINUTE
