"""Start a worker without the collector, and leave it without taking it apart.

`python -m longwatt.jobs.start MODULE SPEC` does what `python -m MODULE SPEC` does, sooner. What
libraries define while they are imported is no garbage, but Python's collector looks for some in it
again and again, and once more at the end, when every object is taken apart. Both together take as
long as the import itself.
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
UNUSED = ("datasets",)


def imported() -> None:
    """Let the collector work from now on, but never look at what was imported so far."""
    gc.freeze()
    gc.enable()


def leave() -> None:
    """End this process, whose work is done, at once and well."""
    atexit._run_exitfuncs()  # temporary folders, and what libraries want done
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def put_off(library: str) -> None:
    """Let a library be loaded when something of it is first used, not where it is imported."""
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
    """Run the module that the command line names as the main one, on its own arguments."""
    gc.disable()
    for library in UNUSED:
        put_off(library)
    sys.argv[:] = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    start_worker()
