"""Script that measures an estimator on the cases of the leaderboard, in a process of its own.

Usage: ``python -m pudle.reports.leaderboard.scoring HOME SCORES_ONLY SPEC...``, from the folder
that specs are relative to.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pudle.errors import PudleError
from pudle.measuring.experiment import silent
from pudle.measuring.run import execute
from pudle.reports.leaderboard.submission import selection

#: All that the process of another person's code sees of this one's environment.
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


def measure_apart(folder: Path, home: Path, specs: list[str], *, scores_only: bool) -> None:
    """Measure estimators, whose specs are relative to a folder, in a process that sees nothing of
    this one's environment.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "HOME": str(home)
    }
    home.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        __name__,
        str(home.resolve()),
        "yes" if scores_only else "no",
        *specs,
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise PudleError(f"{folder.name} cannot be measured: {lines[-1]}")


def main() -> None:
    home, scores_only, *specs = sys.argv[1:]
    execute(
        selection(*specs),
        home=Path(home),
        workers=os.cpu_count() or 1,
        scores_only=scores_only == "yes",
        again=False,
        progress=silent,
    )


if __name__ == "__main__":
    main()
