"""Memory that a piece of work adds to this process, as Linux accounts for it."""

from pathlib import Path

from pudle.workers import return_freed_memory


def peak_growth(work):
    """Return how far memory rises above its present state while the work runs, in KiB."""
    # Memory that was freed and not given back would be used again without a trace.
    return_freed_memory()
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # The peak starts anew.
    work()
    return _memory("VmHWM") - before


def _memory(entry):
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(entry))
