"""The installed package: light to import, and alone under its one name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.shell_completion import ShellComplete
from paths import ROOT

import pudle
from pudle.cli import pudle as program

#: The top-level folders that must not become top-level packages.
FOLDERS = ("bench", "datasets", "estimators", "reports", "tests")
SOURCES = ("src", *FOLDERS[:-1], "pyproject.toml", "README.md", "LICENSE")


def run(code: str, *arguments: str) -> str:
    """Run code in a fresh, isolated interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-I", *arguments, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestImport:
    def test_torch_is_not_imported(self):
        loaded = (
            "import sys, pudle; print([name for name in ('torch', 'numpy', 'pandas', 'seaborn') if"
            " name in sys.modules])"
        )
        assert run(loaded) == "[]"

    def test_listing_the_names_imports_nothing_more(self):
        assert (
            run("import sys, pudle; dir(pudle); pudle.__version__; print('torch' in sys.modules)")
            == "False"
        )

    def test_every_public_name_loads(self):
        import pudle

        for name in pudle.__all__:
            assert getattr(pudle, name) is not None
        assert set(pudle.__all__) <= set(dir(pudle))

    def test_unknown_name(self):
        import pudle

        with pytest.raises(AttributeError, match="module 'pudle' has no attribute 'Istaa'"):
            pudle.Istaa  # noqa: B018

    def test_core_imports_nothing_from_the_folders(self):
        code = (
            "import pkgutil, sys, importlib, pudle\nskip = {'pudle.' + name for name in ('bench',"
            " 'datasets', 'estimators', 'reports', '__main__')}\nfor module in"
            " pkgutil.iter_modules(pudle.__path__, 'pudle.'):\n    if module.name not in skip:"
            " importlib.import_module(module.name)\nprint(sorted(name for name in sys.modules if"
            " name in skip))"
        )
        assert run(code) == "[]"

    def test_importing_leaves_random_state_and_defaults_alone(self):
        code = (
            "import torch\nbefore = torch.get_rng_state(), torch.get_default_dtype(),"
            " torch.get_num_threads(), torch.is_grad_enabled()\nimport"
            " pudle\npudle.list_estimators(), pudle.list_datasets(), pudle.SparseCoding\nafter ="
            " torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads(),"
            " torch.is_grad_enabled()\nprint(torch.equal(before[0], after[0]) and before[1:] =="
            " after[1:])"
        )
        assert run(code) == "True"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy to build from, since building writes beside the sources."""
    if not (ROOT / "src").is_dir():
        pytest.skip("the sources are not here: nothing to build a package from")
    pytest.importorskip(
        "setuptools", minversion="77", reason="building needs setuptools 77 in this environment"
    )
    copy = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def pip(*arguments: str | Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    command += ["--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, source, tmp_path_factory) -> Path:
    """A folder of installed packages that holds this one, and one called `datasets` as Hugging
    Face's is.
    """
    target = tmp_path_factory.mktemp(request.param)
    neighbor = target / "datasets"
    neighbor.mkdir()
    (neighbor / "__init__.py").write_text("load_dataset = 'the neighbor'\n")
    pip("--target", target, *(["--editable", source] if request.param == "editable" else [source]))
    return target


def run_with(folder: Path, code: str) -> str:
    """Run code against `folder` alone: without this environment's own packages."""
    return run(f"import site; site.addsitedir({str(folder)!r})\n{code}", "-S")


class TestInstalled:
    def test_nothing_else_lands_at_the_top_level(self, installed):
        names = {path.name for path in installed.iterdir()}
        assert {"datasets"} == names & set(FOLDERS), (
            "the neighbor's folder is the only one of that name"
        )
        listed = [path for path in installed.glob("*.dist-info/RECORD")]
        (record,) = [path.read_text() for path in listed]
        tops = {line.split("/")[0].split(",")[0] for line in record.splitlines()}
        assert not tops & {*FOLDERS, *(f"{name}.py" for name in FOLDERS)}

    def test_neighbor_is_untouched(self, installed):
        assert sorted(path.name for path in (installed / "datasets").glob("*.py")) == [
            "__init__.py"
        ]
        assert (
            run_with(installed, "import datasets; print(datasets.load_dataset)") == "the neighbor"
        )

    @pytest.mark.parametrize("first", ["pudle.datasets", "datasets"])
    def test_both_stay_importable_in_either_order(self, installed, first):
        second = "datasets" if first == "pudle.datasets" else "pudle.datasets"
        code = (
            f"import {first}, {second}, datasets, pudle.datasets\nprint(datasets.load_dataset,"
            " pudle.datasets is datasets)"
        )
        assert run_with(installed, code) == "the neighbor False"

    def test_top_level_names_are_not_importable(self, installed):
        code = (
            "import importlib.util, json\n"
            "print(json.dumps({name: importlib.util.find_spec(name) is not None "
            "for name in ('estimators', 'bench', 'reports', 'tests', 'pudle')}))"
        )
        found = json.loads(run_with(installed, code))
        assert found == {
            "estimators": False,
            "bench": False,
            "reports": False,
            "tests": False,
            "pudle": True,
        }

    def test_subpackages_are_there(self, installed):
        folders = {"pudle": ROOT / "src" / "pudle"} | {
            f"pudle.{name}": ROOT / name for name in FOLDERS[:-1]
        }
        packages = [
            ".".join([package, *file.parent.relative_to(folder).parts])
            for package, folder in folders.items()
            for file in folder.rglob("__init__.py")
        ]
        assert {"pudle.learning.studies", "pudle.reports.compare", "pudle.sharing"} <= set(packages)
        code = (
            f"import importlib.util\nprint([name for name in {packages} if"
            " importlib.util.find_spec(name) is None])"
        )
        assert run_with(installed, code) == "[]"

    def test_entry_points_name_files_that_exist(self, installed):
        code = (
            "import json\nfrom importlib.metadata import distribution\npoints ="
            " distribution('pudle').entry_points\nprint(json.dumps([point.module for point in"
            " points if point.group.startswith('pudle.')]))"
        )
        modules = json.loads(run_with(installed, code))
        assert len(modules) > 40
        for module in modules:
            _, first, *rest = module.split(".")
            folder = ROOT / first if first in FOLDERS else ROOT / "src" / "pudle" / first
            assert (
                folder.joinpath(*rest).with_suffix(".py").is_file()
                or (folder.joinpath(*rest) / "__init__.py").is_file()
            )

    def test_templates_of_plugins_are_shipped(self, installed):
        code = (
            "from importlib.resources import files\n"
            "folder = files('pudle.sharing').joinpath('templates')\n"
            "print(sum(path.is_file() for path in folder.rglob('*.j2')))"
        )
        there = sum(
            path.is_file()
            for path in (ROOT / "src" / "pudle" / "sharing" / "templates").rglob("*.j2")
        )
        assert int(run_with(installed, code)) == there > 5

    def test_templates_and_type_marker_are_shipped(self, installed):
        code = (
            "from importlib.resources import files\ntemplates = [path.name for path in"
            " files('pudle.reports.page').joinpath('templates').iterdir()]\nprint(files('pudle').joinpath('py.typed').is_file(),"
            " all(not name.startswith('__') for name in templates))"
        )
        assert run_with(installed, code) == "True True"


def test_beside_the_real_neighbor():
    """Hugging Face's package, where this environment has it."""
    try:
        metadata.version("datasets")
    except metadata.PackageNotFoundError:
        pytest.skip("Hugging Face's `datasets` is not installed; a stand-in is used above")
    code = (
        "import datasets, pudle.datasets; print(hasattr(datasets, 'load_dataset'), pudle.datasets"
        " is datasets)"
    )
    assert run(code) == "True False"


#: What a user writes: an estimator and an algorithm of one's own, and the two commands.
OWN_ESTIMATOR = """
from dataclasses import dataclass
import torch
from pudle import Estimate, GradientEstimator

@dataclass(frozen=True)
class Frozen(GradientEstimator):
    name, computes = "frozen", "direct"

    def estimate(self, problem, algorithm, depth):
        codes = algorithm.run(problem, depth).codes.detach()
        theta = problem.theta.detach().requires_grad_()
        return Estimate(torch.autograd.grad(problem.with_theta(theta).outer_loss(codes), theta)[0], codes)
"""
OWN_ALGORITHM = """
from dataclasses import dataclass
import pudle
from pudle.algorithms import State

@dataclass(frozen=True)
class Relaxed(pudle.Algorithm):
    weight: float = 0.9
    name = "relaxed"

    def advance(self, problem, state, step):
        moved = self.proximal_step(problem, state.point, step, state.iteration)
        codes = state.codes + self.weight * (moved - state.codes)
        return State(codes=codes, point=codes, iteration=state.iteration + 1)
"""
RUN = [
    "run",
    "--estimator",
    "own.py",
    "--algorithm",
    "rules.py:Relaxed(weight=0.8)",
    "--dataset",
    "array(path='data.csv')",
]
RUN += [
    "--home",
    "results",
    "--only",
    "--estimator",
    "alternating",
    "--loss",
    "lasso",
    "--seeds",
    "1",
    "--depth",
    "3",
]


@pytest.mark.slow
def test_own_estimator_algorithm_and_table_give_a_page_from_an_empty_folder(installed, tmp_path):
    """A wheel, outside any repository; the results hold no path to this place, and are read
    wherever they are copied to.
    """
    if any(installed.glob("__editable__*")):
        pytest.skip("the same for an editable install, which is what all other tests run on")
    here = tmp_path / "empty"
    here.mkdir()
    (here / "own.py").write_text(OWN_ESTIMATOR)
    (here / "rules.py").write_text(OWN_ALGORITHM)
    random = np.random.default_rng(0)
    table = (
        random.standard_normal((60, 8)) * (random.random((60, 8)) < 0.3)
    ) @ random.standard_normal((8, 6)) + 1e-3
    np.savetxt(here / "data.csv", table, delimiter=",", header="a,b,c,d,e,f", comments="")
    # A new installation would compile its kernels first.
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
        "PUDLE_KERNELS": "torch",
    }

    def pudle(*arguments, cwd):
        command = [sys.executable, "-P", "-m", "pudle", *arguments]
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
        )

    done = pudle(*RUN, "--workers", "1", cwd=here)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.startswith("2 of 2 scores computed now, 2 ok, ")
        and "times and memories measured now" in done.stdout
    )
    assert "no git repository here" in done.stdout
    for path in (here / "results").rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
    # What the two files compute is what they say: the estimator is the built-in of the same
    # formula.
    records = [
        json.loads(path.read_text())
        for path in (here / "results" / "quick" / "store").glob("array*-lasso*/*.json")
    ]
    errors = {record["estimator"]: record["scores"][0]["relative_error"] for record in records}
    assert errors["own.py:Frozen"] == pytest.approx(errors["alternating"], rel=1e-9)
    assert all(
        record["provenance"]["sources"] and not record["provenance"]["commit"] for record in records
    )

    elsewhere = tmp_path / "artifact"
    shutil.copytree(here / "results", elsewhere / "results")
    report = pudle("report", "--home", "results", "--format", "html", cwd=elsewhere)
    assert report.returncode == 0, report.stderr
    page = (elsewhere / report.stdout.strip().splitlines()[-1]).read_text()
    assert (
        "own.py:Frozen" in page
        and "rules.py:Relaxed(weight=0.8)" in page
        and "sources" in page.lower()
    )


@pytest.mark.parametrize(
    ("words", "begun", "completed"),
    [
        ([], "re", "report"),
        (["run"], "--est", "--estimator"),
        (["run", "--profile"], "q", "quick"),
        ([], "init", "init-plugin"),
    ],
)
def test_the_shell_completes_commands_options_and_choices(words, begun, completed):
    found = ShellComplete(program, {}, "pudle", "_PUDLE_COMPLETE").get_completions(words, begun)
    assert completed in [item.value for item in found]


class TestPublishing:
    """What stands in several files says the same."""

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def test_the_recipe_for_conda_needs_what_the_package_needs(self):
        recipe = (ROOT / ".ci" / "conda" / "meta.yaml").read_text()
        listed = dict(
            re.findall(
                r"^    - ([\w-]+) (>=?[\d.,<>=]+)$", recipe.partition("  run:")[2], re.MULTILINE
            )
        )
        other = {"torch": "pytorch", "asv-runner": "asv_runner"}
        needed = dict(
            re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in self.project["dependencies"]
        )
        assert listed == {other.get(name, name): bounds for name, bounds in needed.items()}

    def test_versions_agree(self):
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        recipe = (ROOT / ".ci" / "conda" / "meta.yaml").read_text()
        assert (
            citation["version"] == pudle.__version__
            and f'version = "{pudle.__version__}"' in recipe
        )
        assert f"## {pudle.__version__}" in (ROOT / "CHANGELOG.md").read_text()

    def test_the_address_of_the_project_is_the_same_everywhere(self):
        """As long as no URL "Repository" stands in pyproject.toml, no file knows one."""
        address = self.project.get("urls", {}).get("Repository")
        citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
        recipe = (ROOT / ".ci" / "conda" / "meta.yaml").read_text()
        (known,) = re.findall(r'^{% set address = "(.*)" %}$', recipe, re.MULTILINE)
        assert citation.get("repository-code") == address and known == (address or "ADDRESS")

    def test_links_of_the_readme_lead_somewhere(self):
        links = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text())
        missing = [
            link
            for link in links
            if not link.startswith(("https://", "#")) and not (ROOT / link).exists()
        ]
        assert links and not missing

    def test_classifiers_name_the_tested_versions_of_python(self):
        tested = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"][
            "test"
        ]
        versions = {
            line.rpartition(" ")[2]
            for line in self.project["classifiers"]
            if "Python :: 3." in line
        }
        assert versions == set(tested["strategy"]["matrix"]["python"])
