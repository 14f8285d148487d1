"""The command line: one clear line on stderr, nothing written on wrong usage, nothing lost when
killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from asv.results import Results
from plugin import write_plugin

from pudle import cli
from pudle.measuring.run import RunSummary
from pudle.measuring.run_command import _first_reasons

PUDLE = [sys.executable, "-m", "pudle"]


def run(*arguments, cwd, path=None):
    """Run the command in a process of its own, where plug-ins on a path are installed."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run(
        [*PUDLE, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run the command in this process, which spares the seconds that torch takes to import."""

    def run(*arguments, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["pudle", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return subprocess.CompletedProcess(arguments, end.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def repository(tmp_path):
    """A user's own repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "--allow-empty", "-m", "first"]):
        identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "photograph.png").write_bytes(b"\x89PNG and nothing more")
    return folder


WRONG = {
    "unknown command": (["frobnicate"], "No such command 'frobnicate'"),
    "unknown profile": (
        ["run", "--profile", "huge"],
        "'huge' is not one of 'default', 'paper', 'quick'",
    ),
    "unknown estimator": (
        ["run", "--estimator", "backprp"],
        "unknown estimator 'backprp' (did you mean 'backprop'?)",
    ),
    "malformed spec": (
        ["run", "--estimator", "truncated(window"],
        "malformed spec 'truncated(window'",
    ),
    "calling spec": (
        ["run", "--estimator", "truncated(window=exit())"],
        "a spec never calls or computes anything",
    ),
    "missing argument": (["run", "--estimator", "truncated"], "truncated needs window"),
    "window": (
        ["run", "--estimator", "truncated(window=0)"],
        "window=0 is too small: give a whole number >= 1",
    ),
    "unknown case": (
        ["run", "--case", "nothing*"],
        "--case 'nothing*' matches no case of profile quick: known are",
    ),
    "unknown loss": (
        ["run", "--loss", "lassso"],
        "--loss 'lassso' is unknown (did you mean 'lasso'?): the datasets here have",
    ),
    "unknown algorithm": (
        ["run", "--algorithm", "istaa"],
        "unknown algorithm 'istaa' (did you mean 'ista'?)",
    ),
    "unknown target": (
        ["run", "--target", "truth"],
        "target='truth' is unknown: choose from exact",
    ),
    "no samples": (["run", "--dataset", "ridge", "--samples", "0"], "0 is not in the range x>=1"),
    "no file": (
        ["run", "--dataset", "mine.py"],
        "mine.py cannot be read (No such file or directory)",
    ),
    "no table": (
        ["run", "--dataset", "array(path='nowhere.csv')"],
        "path='nowhere.csv' is not an existing file",
    ),
    "unknown kind": (
        ["list", "estimator"],
        "unknown kind 'estimator' (did you mean 'estimators'?)",
    ),
    "only nothing": (["run", "--only"], "--only needs at least one --estimator"),
    "unknown dataset": (
        ["run", "--dataset", "image_patch"],
        "unknown dataset 'image_patch' (did you mean 'image_patches'?)",
    ),
    "no folder": (
        ["run", "--dataset", "image_patches(folder='nowhere')"],
        "folder='nowhere' is not an existing folder",
    ),
    "empty folder": (
        ["run", "--dataset", "image_patches(folder='../empty')"],
        "folder='../empty' is an empty image folder",
    ),
    "unreadable": (
        ["run", "--dataset", "image_patches(folder='../damaged')"],
        "holds an unreadable image, photograph.png",
    ),
    "workers": (["run", "--workers", "0"], "0 is not in the range x>=1"),
    "no results": (["report"], "run `pudle run --profile quick` first"),
    "unknown format": (["report", "--format", "docx"], "'docx'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_is_one_line_and_writes_nothing(name, repository, run_here):
    arguments, text = WRONG[name]
    done = run_here(*arguments, cwd=repository)
    assert done.returncode == 2
    assert done.stdout == ""
    assert text in done.stderr
    assert done.stderr.startswith("pudle: error: ") and done.stderr.count("\n") == 1, done.stderr
    assert [entry.name for entry in repository.iterdir()] == [".git"]


def test_wrong_usage_in_a_process_of_its_own(repository):
    done = run("run", "--only", cwd=repository)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("pudle: error: --only needs") and done.stderr.count("\n") == 1


def test_cuda_where_there_is_none_is_refused(repository, run_here):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    done = run_here("run", "--device", "cuda", cwd=repository)
    assert done.returncode == 2 and "torch sees no CUDA device here" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "--help"], ["run", "--help"], ["report", "--help"]]
)
def test_help_has_an_example(arguments, tmp_path, run_here):
    done = run_here(*arguments, cwd=tmp_path)
    assert done.returncode == 0 and "Example" in done.stdout


def test_help_says_what_every_command_does(tmp_path, run_here):
    done = run_here("--help", cwd=tmp_path)
    for name in entry_points(group="pudle.commands").names:
        assert re.search(rf"^  {name} +[A-Z].*", done.stdout, re.MULTILINE), (
            f"{name} has no summary"
        )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list", "--help"]])
def test_help_is_quick_because_it_does_not_import_torch(arguments, tmp_path):
    script = (
        "import sys\nfrom pudle import cli\ntry:\n    cli.main()\nfinally:\n    print('torch' in"
        " sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False"


def test_list_names_everything(tmp_path):
    done = run("list", cwd=tmp_path, path=write_plugin(tmp_path / "plugin", ["refuses"]))
    assert done.returncode == 0
    for name in (
        "truncated",
        "window",
        "sparse_gaussian",
        "image_patches",
        "refuses",
        "sparse_gaussian-ista-lasso",
    ):
        assert name in done.stdout


def test_a_plugin_that_cannot_be_imported_is_named(tmp_path):
    plugin = write_plugin(tmp_path / "plugin", ["refuses"])
    (plugin / "broken_plugin.py").write_text("import nothing_of_that_name\n")
    done = run("list", "estimators", cwd=tmp_path, path=plugin)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (
        "plug-in 'refuses' of broken_plugin cannot be loaded" in done.stderr
        and "nothing_of_that_name" in done.stderr
    )


def test_list_marks_the_experiments_of_a_profile(tmp_path, run_here):
    done = run_here("list", "experiments", "--profile", "default", cwd=tmp_path)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert any(
        "interpretation-digits-backprop-reconstruction" in line and "yes" in line for line in lines
    )
    assert any("denoising-backprop" in line and "yes" not in line for line in lines)


def scores(home):
    return {path: path.stat().st_mtime_ns for path in sorted(home.glob("quick/store/*-*/*.json"))}


#: A small dataset of the user's own, and its two cases.
TINY = [
    "--dataset",
    "sparse_gaussian(n_samples=20)",
    "--case",
    "sparse_gaussian_n_samples_20-ista-*",
]
SMALL = ["--scores-only", *TINY, "--workers", "1"]


@pytest.mark.slow
def test_a_killed_run_keeps_what_was_finished_and_a_rerun_computes_the_rest(tmp_path):
    home = tmp_path / "home"
    arguments = ["run", *SMALL, "--home", str(home)]
    process = subprocess.Popen(
        [*PUDLE, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(scores(home)) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.5)  # workers notice that their parent is gone within half a second
    finished = scores(home)
    assert 2 <= len(finished) < 8
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{8 - len(finished)} of 8 scores computed now" in done.stdout
    after = scores(home)
    assert len(after) == 8
    assert all(after[path] == time_ for path, time_ in finished.items())


def test_a_second_run_on_the_same_folder_is_refused(tmp_path):
    from filelock import FileLock

    home = tmp_path / "home"
    (home / "quick").mkdir(parents=True)
    with FileLock(home / "quick" / "lock"):
        done = run("run", *SMALL, "--home", home, cwd=tmp_path)
    assert done.returncode == 2 and "another run is writing to" in done.stderr


def test_the_log_of_a_run_has_few_lines_about_its_progress_and_the_last(
    run_here, tmp_path, monkeypatch
):
    def execute(selection, *, progress, **options):
        for done in range(1, 501):
            progress(done, 500, f"task {done}")
        records = {kind: [] for kind in ("score", "memory", "time", "experiment")}
        return RunSummary(tmp_path, records, [], [])

    monkeypatch.setattr("pudle.measuring.run.execute", execute)
    done = run_here("run", "--home", str(tmp_path), cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and len(lines) < 10
    assert (lines[0], lines[-1]) == ("1/500: task 1", "500/500: task 500")


def test_an_error_says_each_reason_once_and_how_many_results_it_cost():
    lines = [(f"backprop on case-{number}", "error: too large: give less") for number in range(8)]
    assert _first_reasons(lines) == [
        "backprop on case-0, backprop on case-1, backprop on case-2 and 5 more: "
        "error: too large: give less"
    ]
    assert _first_reasons([("a", "error: x"), ("b", "timeout: y"), ("c", "error: x")]) == [
        "a, c: error: x",
        "b: timeout: y",
    ]
    many = _first_reasons(
        [(f"backprop on case-{number}", f"error: number {number}") for number in range(100)]
    )
    assert len(many) == 4 and many[-1] == "and 97 more, which `pudle report` lists"


@pytest.mark.slow
def test_three_broken_estimators_leave_the_report_of_the_others_whole(tmp_path):
    """One raises, one has the wrong shape, one kills its process: each is named with how, the rest
    is measured.
    """
    broken = {"raises": "ZeroDivisionError: planted", "transposed": "shape", "dies": "signal 9"}
    plugin = write_plugin(tmp_path / "plugin", list(broken))
    home = tmp_path / "home"
    arguments = [
        "run",
        "--scores-only",
        "--case",
        "sparse_gaussian-ista-lasso",
        "--workers",
        "1",
        "--home",
        home,
        "--only",
    ]
    for name in ("alternating", "backprop", *broken):
        arguments += ["--estimator", name]
    done = run(*arguments, cwd=tmp_path, path=plugin)
    assert done.returncode == 2, done.stdout
    report = run("report", "--home", home, "--format", "markdown", cwd=tmp_path, path=plugin)
    assert report.returncode == 2
    assert (
        report.stderr.startswith("something broke in raises, transposed, dies")
        and report.stderr.count("\n") == 1
    )
    lines = Path(report.stdout.strip().splitlines()[-1]).read_text().splitlines()
    for name, how in broken.items():
        assert any(name in line and how in line for line in lines)
    # What the others did stands there in full: an answer and their rates.
    assert any(line.startswith("| ") and "backprop" in line and "e-" in line for line in lines)


def test_a_reason_that_many_cases_share_is_said_once(repository, tmp_path):
    plugin = write_plugin(tmp_path / "plugin", ["refuses"])
    arguments = [
        *TINY[:2],
        "--algorithm",
        "ista",
        "--algorithm",
        "fista",
        "--depth",
        "2",
        "--seeds",
        "1",
        "--scores-only",
    ]
    done = run("run", *arguments, "--only", "--estimator", "refuses", cwd=repository, path=plugin)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "use backprop instead" in line]
    assert re.search(
        r"^ +refuses on .*lasso\S*, refuses on .*, refuses on .* and 1 more: unsupported: refuses:"
        r" needs",
        line,
    )


@pytest.mark.slow
def test_asv_cells_end_to_end_with_a_broken_plugin(repository, tmp_path):
    """asv's benchmarks, in a user's repository: good cells are measured, the broken one is named,
    and the exit code is 2.
    """
    plugin = write_plugin(tmp_path / "plugin", ["raises", "refuses"])
    case = "sparse_gaussian_n_samples_20-ista-lasso"
    arguments = [*TINY[:2], "--case", case, "--depth", "2", "--depth", "10", "--only"]
    arguments += ["--estimator", "alternating", "--estimator", "raises"]
    done = run("run", *arguments, "--estimator", "refuses", cwd=repository, path=plugin)
    assert done.returncode == 2, done.stderr
    assert f"raises on {case}: error: at depth 10: ZeroDivisionError: planted" in done.stderr
    assert f"refuses on {case}: unsupported" in done.stdout
    assert "'" not in done.stdout.splitlines()[0]

    from pudle.reports import load

    results = load.load(repository / ".asv", "quick")
    frame = results.frame
    good = frame[(frame.estimator == "alternating") & (frame.status == "ok")]
    assert set(good.metric) >= {
        "relative_error",
        "cosine_error",
        "code_error",
        "seconds",
        "memory_bytes",
    }
    assert (good[good.metric == "seconds"].value > 0).all()
    assert not ((frame.estimator == "raises") & (frame.depth > 2) & (frame.status == "ok")).any()

    # asv's history has the same times, and asv itself reads it.
    (path,) = (repository / ".asv" / "quick" / "results").glob("*/*-existing*.json")
    history = Results.load(str(path))
    timed = results.timings[results.timings["estimator"] == "alternating"]
    parameters = [[repr(case)], ["'alternating'"], [repr(depth) for depth in timed["depth"]]]
    times = history.get_result_value("timing.Time.time_estimate", parameters)
    assert times == pytest.approx(timed["seconds"].tolist(), rel=1e-5)
    # A second run has nothing to do.
    again = run("run", *arguments, "--estimator", "refuses", cwd=repository, path=plugin)
    assert (
        "times and memories measured now" in done.stdout
        and "times and memories" not in again.stdout
    )

    report = run("report", cwd=repository, path=plugin)
    assert report.returncode == 2 and "raises" in report.stderr
    page = Path(report.stdout.strip().splitlines()[-1])
    assert (
        page.suffix == ".html"
        and "ZeroDivisionError: planted" in page.with_suffix(".md").read_text()
    )
