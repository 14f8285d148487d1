"""Script that runs a command and ends this session with it, or when nobody holds the other end of a
pipe.

Usage: ``attendant.py PIPE WHEN COMMAND...``, where PIPE is the file descriptor to read from. The
parent holds the other end; the system closes it however the parent ends. The whole session is ended
because asv starts process groups of its own. WHEN is ``now``, or ``after`` for a command to run
when the pipe is closed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

#: Looks at the session: a process may start another one between the look and its end.
ROUNDS = 3


def main() -> None:
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)
    # Further file descriptors that the parent passes on are the command's.
    if sys.argv[2] == "after":
        os.read(pipe, 1)
    process = subprocess.Popen(sys.argv[3:], close_fds=False)

    def watch() -> None:
        os.read(pipe, 1)
        end_session()
        os._exit(1)

    if sys.argv[2] == "now":
        threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    end_session()
    os._exit(code if code >= 0 else 128 - code)


def end_session() -> None:
    """Kill every other process of this session."""
    for _ in range(ROUNDS):
        for process in processes():
            with contextlib.suppress(OSError):
                if process != os.getpid() and os.getsid(process) == os.getsid(0):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def processes() -> list[int]:
    """Return the numbers of all processes."""
    if os.path.isdir("/proc/self"):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    listed = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True).stdout
    return [int(word) for word in listed.split()]


if __name__ == "__main__":
    main()
