"""Start a worker without the garbage collector, and end it without taking it apart.

`python -m longwatt.jobs.start MODULE SPEC` does what `python -m MODULE SPEC` does, sooner.
Libraries make hundreds of thousands of objects while they are imported, and none is garbage.
Python's collector looks through them again and again, and takes all of them apart at the end.
Together this takes as long as the import itself.
"""

from __future__ import annotations

import atexit
import gc
import os
import runpy
import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

CHANGES_NO_RESULT = "It starts and ends a worker; the work is done elsewhere."

# The library's Trainer imports it, and pandas with it, to recognise a dataset of its kind.
PUT_OFF = ("datasets",)


def imported() -> None:
    """Let the collector work from now on, but pass over what was imported."""
    gc.freeze()
    gc.enable()


def end() -> None:
    """End this process at once, as a success."""
    atexit._run_exitfuncs()  # temporary folders, and what libraries want done
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def put_off(library: str) -> None:
    """Load a library when something of it is first used, not where it is imported."""
    spec = find_spec(library)
    if spec is None or spec.loader is None or library in sys.modules:
        return
    module, loader = module_from_spec(spec), spec.loader

    def load(name: str) -> Any:
        del module.__dict__["__getattr__"]
        loader.exec_module(module)
        return getattr(module, name)

    module.__dict__["__getattr__"] = load  # called for names that the module lacks
    sys.modules[library] = module


def start_worker() -> None:
    """Run the module that the command line names, on the arguments behind it."""
    gc.disable()
    for library in PUT_OFF:
        put_off(library)
    sys.argv[:] = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    start_worker()
