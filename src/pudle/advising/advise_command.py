"""`pudle advise`: which gradient estimator to use on a problem."""

import re
from typing import Any

from click import BadParameter, argument, command, get_current_context, option

from ..terminal import check_device, device_option, echo, progress_line

UNITS = {"KI": 2**10, "MI": 2**20, "GI": 2**30}


def _bytes(value: str) -> float:
    """Read a size such as ``200MiB``, in bytes unless a unit says otherwise; what is none is wrong
    usage.
    """
    size = re.fullmatch(r"\s*(\d+\.?\d*)\s*(?:([KMG]I)?B)?\s*", value.upper())
    if not size:
        raise BadParameter(
            f"{value!r} is no size: write bytes, or a number with KiB, MiB or GiB, e.g. 200MiB"
        )
    return float(size[1]) * UNITS.get(size[2], 1)


@command("advise", context_settings={"show_default": True})
@argument("estimators", nargs=-1, metavar="[SPEC]...")
@option("--dataset", metavar="SPEC", required=True, help="Dataset whose seeds give the problems.")
@option(
    "--algorithm",
    metavar="SPEC",
    help="Inner algorithm [default: all that lead to the problem's minimizer].",
)
@option("--loss", metavar="NAME", help="Outer loss [default: the dataset's first].")
@option(
    "--error",
    type=float,
    metavar="E",
    help="Largest relative error of the gradient [default: 0.01 if no other limit is given].",
)
@option("--seconds", type=float, metavar="S", help="Largest time of one gradient.")
@option(
    "--memory", type=_bytes, metavar="SIZE", help="Largest memory of one gradient, e.g. 200MiB."
)
@option("--seeds", default=20, help="New seeds that the answer is tested on.")
@option("--most-depth", default=1600, help="Largest number of layers to run.")
@option(
    "--train",
    is_flag=True,
    help="Train shortly with the advised estimator and the runner-up, and compare.",
)
@device_option
def advise_command(dataset: str, algorithm: str | None, **options: Any) -> None:
    """Say which algorithm and gradient estimator to use on a problem, for the error that you need
    and the time and memory that you have.

    Candidates are the named estimators, or all that are installed; a name such as `truncated`
    stands for all its windows, which are searched. The answer is tested on seeds that had no part
    in the choice, which takes some minutes in all. The exit code is 0 with an advice, 1 if nothing
    meets the requirement, which then says what comes closest, and 2 for wrong usage.

    \b
    Examples:
      pudle advise --dataset sparse_gaussian --algorithm 'ista(step=0.2)' --error 0.02
      pudle advise truncated backprop --dataset digits --loss reconstruction --seconds 0.1
      pudle advise --dataset sparse_gaussian --error 1e-6 --memory 200MiB --train
    """
    # Imported late, because they take seconds: help texts need none.
    from .advise import advise

    check_device(options["device"])
    with progress_line() as show:
        advice = advise(dataset, algorithm, progress=show, **options)
    echo(advice)
    for name, reason in advice.left_out.items():
        echo(f"left out: {name}: {reason}", err=True)
    if not advice.chosen:
        get_current_context().exit(1)
