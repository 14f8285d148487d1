"""Script that measures scores and memory at one commit: run by path with that commit's Python, so
`pudle` is that commit's.

Usage: ``scores_script.py REQUEST [HOME]``, where REQUEST holds the arguments of `Side.measure` as
JSON. Without HOME it only prints what the commit lacks, see `lacking`. With HOME it ends without a
result and with exit code 0 where the commit has none of the requested estimators or cases: on head
they have vanished, or on base they do not exist yet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import json
import sys
from typing import Any

#: Parts of a profile that no verdict depends on, and how to leave them out: times are taken in
#: turns.
LEFT_OUT = {"windows": (), "jacobian_error": False, "experiments": (), "costs": ("memory_bytes",)}
#: What a commit may lack: the options of `pudle run` with specs, and the functions that read these.
SPECS = {
    "estimators": ("--estimator", "make_estimator"),
    "datasets": ("--dataset", "make_dataset"),
    "algorithms": ("--algorithm", "make_algorithm"),
}
#: The other options of `pudle run` that take the place of a profile's axes.
VALUES = {"losses": "--loss", "targets": "--target", "seeds": "--seeds", "samples": "--samples"}


def lacking(request: dict[str, Any]) -> dict[str, str]:
    """Return the reason for each name that cannot be loaded, and for each requested spec or pattern
    that names nothing.
    """
    import pudle
    from pudle import names

    reasons: dict[str, str] = {}
    for group in names.KINDS:
        reasons |= names.entries(group).broken
    for name, (_, maker) in SPECS.items():
        for spec in request.get(name) or request["axes"].get(name, ()):
            try:
                getattr(pudle, maker)(spec)
            except Exception as error:  # noqa: BLE001  # a plug-in may raise anything, and is then missing on this side
                # A list of all that is known is too long for a verdict.
                reasons[spec] = (
                    (str(error) or repr(error)).splitlines()[0].partition(": known are ")[0]
                )
    cases = [case.name for case in names.list_profiles()[request["profile"]].cases]
    # The names of cases on other datasets are not known before they are drawn.
    for pattern in () if request["axes"].get("datasets") else request["cases"]:
        if not fnmatch.filter(cases, pattern):
            nearest = names.nearest(pattern, cases)
            reasons[pattern] = (
                f"--case {pattern!r} matches no case of profile {request['profile']}{nearest}"
            )
    return reasons


def main() -> None:
    from pudle import names
    from pudle.cli import main as pudle_command

    request = json.loads(sys.argv[1])
    # What a plug-in prints is no answer.
    with contextlib.redirect_stdout(sys.stderr):
        absent = lacking(request)
    if len(sys.argv) == 2:
        print(json.dumps(absent))
        return
    profile: Any = names.list_profiles()[request["profile"]]
    profile = dataclasses.replace(
        profile, **{part: off for part, off in LEFT_OUT.items() if hasattr(profile, part)}
    )
    # `pudle run` looks its profiles up here when it is loaded, which happens only in the last line
    # below.
    names.list_profiles = lambda: {profile.profile: profile}
    if depths := tuple(request["depths"]):
        cases = tuple(dataclasses.replace(case, depths=depths) for case in profile.cases)
        profile = dataclasses.replace(
            profile, cases=cases, timed_depths=depths, tracked_depths=depths
        )
    axes, options = {name: value for name, value in request["axes"].items() if value}, list[str]()
    estimators = [spec for spec in request["estimators"] if spec not in absent]
    for name, (option, _) in SPECS.items():
        known = [spec for spec in axes.get(name, ()) if spec not in absent]
        if name in axes and not known:
            return
        options += [f"{option}={spec}" for spec in known]
    for name, option in VALUES.items():
        value = axes.get(name, [])
        options += [f"{option}={each}" for each in (value if isinstance(value, list) else [value])]
    patterns = [pattern for pattern in request["cases"] if pattern not in absent]
    if (request["only"] and not estimators) or (request["cases"] and not patterns):
        return
    sys.argv[1:] = [
        "run",
        "--profile",
        request["profile"],
        "--home",
        sys.argv[2],
        "--device",
        request["device"],
    ]
    sys.argv += (
        [f"--estimator={spec}" for spec in estimators]
        + [f"--case={pattern}" for pattern in patterns]
        + options
    )
    sys.argv += ["--only"] if request["only"] else []
    # A commit from before costs could be chosen would measure all times as well.
    sys.argv += [] if hasattr(profile, "costs") else ["--scores-only"]
    pudle_command()


if __name__ == "__main__":
    main()
