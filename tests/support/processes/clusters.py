"""Dask schedulers and workers in processes of their own, which tests start and kill."""

import os
import shutil
import socket
import subprocess
import sys

from support.paths import ROOT


class Cluster:
    """A scheduler at a fixed port, and workers of one thread each; all end when the context is
    left.
    """

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.start_scheduler()

    def start_scheduler(self):
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", port)

    def start_worker(self, **environment):
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        return self._start("dask_worker", self.address, *options, **environment)

    def _start(self, program, *arguments, **environment):
        with (self.folder / f"{program}-{len(self.processes)}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *arguments, "--no-dashboard"],
                cwd=self.folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


def other_version(folder):
    """Return the PYTHONPATH of a worker whose copy of the package has another line in one
    estimator.
    """
    shutil.copytree(ROOT / "src" / "pudle", folder / "pudle")
    for name in ("estimators", "datasets", "bench", "reports"):
        shutil.copytree(ROOT / name, folder / "pudle" / name)
    path = folder / "pudle" / "estimators" / "backprop.py"
    path.write_text(f"{path.read_text()}\n# Another version.\n")
    return str(folder)
