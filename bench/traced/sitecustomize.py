"""Note what every Python process below `bench.job_start` took until its work began, and in all.

Python imports a module of this name at its start, from the folder that PYTHONPATH names.
"""

import atexit
import importlib.util
import json
import os
import sys
import time
from types import ModuleType
from typing import Any

OUT = os.environ.get("LONGWATT_BENCH_STARTS")
# A job's own process begins its work when it opens its log, a worker with the first of its phases
# that is no loading.
LOG, MARKS = "longwatt.jobs.log", "longwatt.energy.marks"
LOADING = {"idle_before", "load"}
began: dict[str, float] = {}


def begin() -> None:
    """Note the process's CPU time and modules when its work begins."""
    if not began:
        began.update(cpu_s=time.process_time(), modules=len(sys.modules))


def watched(name: str, module: Any) -> None:
    """Wrap the function of a module that is called when work begins."""
    if name == LOG:
        logged = module.logged
        module.logged = lambda *args, **more: (begin(), logged(*args, **more))[1]
        return
    mark = module.Marker.mark

    def marking(self: Any, phase: str, **more: Any) -> None:
        if phase not in LOADING:
            begin()
        mark(self, phase, **more)

    module.Marker.mark = marking


class Finder:
    """Finder of modules that wraps the watched ones once they are loaded."""

    def __init__(self) -> None:
        self.names = {LOG, MARKS}

    def find_spec(self, name: str, *more: Any) -> Any:
        """Find a watched module as the other finders would."""
        if name not in self.names:
            return None
        self.names.remove(name)
        spec: Any = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_watch(module: ModuleType) -> None:
            load(module)
            watched(name, module)

        spec.loader.exec_module = load_and_watch
        return spec


def end() -> None:
    """Write what this process took, with the CPU time of its children."""
    times = os.times()
    line = {
        "command": sys.orig_argv[1:],
        "pid": os.getpid(),
        "parent": os.getppid(),
        "began": began,
        "cpu_s": times.user + times.system,
        "children_cpu_s": times.children_user + times.children_system,
        "modules": len(sys.modules),
        "libraries": sorted({name.split(".")[0] for name in sys.modules}),
    }
    descriptor = os.open(OUT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (json.dumps(line) + "\n").encode())
    os.close(descriptor)


if OUT:
    sys.meta_path.insert(0, Finder())
    atexit.register(end)
