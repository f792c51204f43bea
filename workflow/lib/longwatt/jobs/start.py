"""Start a worker without the garbage collector, and end it without taking it apart.

`python -m longwatt.jobs.start MODULE SPEC` does what `python -m MODULE SPEC` does, sooner.
Libraries make hundreds of thousands of objects while they are imported, and none is garbage.
Python's collector looks through them again and again, and takes all of them apart at the end.
Together this takes as long as the import itself.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

CHANGES_NO_RESULT = "It starts and ends a worker; the work is done elsewhere."

# The library's Trainer imports it, and pandas with it, to recognise a dataset of its kind.
PUT_OFF = ("datasets",)
# It imports this one too wherever it is installed, and takes its things at once. Only jobs of
# models with adapters need it.
ADAPTERS = "peft"


def imported() -> None:
    """Let the collector work from now on, but pass over what was imported."""
    gc.freeze()
    gc.enable()


def end() -> None:
    """End this process at once, as a success.

    Threads that are no daemons finish first, then exit functions run, as at any process's end.
    Nothing else is taken apart, so close files before: text that they still hold is lost.
    """
    # Both are private to Python. Joining threads by hand would wait for idle pools for ever.
    join_threads = getattr(threading, "_shutdown", None)
    run_exit_functions = getattr(atexit, "_run_exitfuncs", None)
    if join_threads is None or run_exit_functions is None:  # another Python: its usual, slower end
        sys.exit()
    join_threads()
    run_exit_functions()  # temporary folders, and what libraries want done
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class PutOff(MetaPathFinder, Loader):
    """Loads a package when something of it, or a module inside it, is first used.

    Python asks for a package's path before it looks for a module inside. So the package is loaded
    then, which may bring that very module along. As Python's first finder, this finds such a
    module as it is: it would else be made twice.
    """

    def __init__(self, package: ModuleType, loader: Loader) -> None:
        self._package, self._loader = package, loader
        self._lock, self._loading, self._loaded = threading.RLock(), False, False
        self._path = package.__dict__.pop("__path__")
        package.__dict__["__getattr__"] = self._attribute  # called for names that it lacks
        sys.modules[package.__name__] = package
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that came along with its package."""
        came = sys.modules.get(fullname)
        inside = fullname.startswith(f"{self._package.__name__}.")
        if not inside or target is not None or came is None or came.__spec__ is None:
            return None
        found = ModuleSpec(fullname, self, origin=came.__spec__.origin, loader_state=came.__spec__)
        found.submodule_search_locations = came.__spec__.submodule_search_locations
        return found

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module that came along."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Give a module that came along its own specification back."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state

    def _attribute(self, name: str) -> Any:
        # Whoever asks for the path may hold a module that another thread's loading waits for.
        if not self._lock.acquire(blocking=name != "__path__"):
            return self._path
        try:
            if self._loading:
                raise AttributeError(f"module {self._package.__name__!r} has no attribute {name!r}")
            if not self._loaded:
                self._load()
        finally:
            self._lock.release()
        return getattr(self._package, name)

    def _load(self) -> None:
        """Load the package, or leave it as it was for another try."""
        names, before = self._package.__dict__, self._package.__dict__.copy()
        names["__path__"], self._loading = self._path, True
        try:
            self._loader.exec_module(self._package)
        except BaseException as error:
            names.clear()
            names.update(before)
            if isinstance(error, AttributeError):  # Python would say that a name is absent
                raise ImportError(f"cannot load {self._package.__name__}: {error}") from error
            raise
        finally:
            self._loading = False
        self._loaded = True
        if names.get("__getattr__") == self._attribute:  # not one of the package's own
            del names["__getattr__"]


def put_off(library: str) -> None:
    """Load a package when something of it is first used, not where it is imported."""
    spec = find_spec(library)
    if spec is None or spec.loader is None or library in sys.modules:
        return
    PutOff(module_from_spec(spec), spec.loader)


def needs_adapters(settings: Mapping[str, Any]) -> bool:
    """Check whether a job's settings are of a model with adapters."""
    return bool(settings.get("lora") or (settings.get("model") or {}).get("lora"))


def hide_adapters(specification: Path) -> None:
    """Let a library seem absent from a job whose specification has no use for it."""
    settings = json.loads(specification.read_text(encoding="utf-8"))["settings"]
    if not needs_adapters(settings) and ADAPTERS not in sys.modules:
        # As Python has it: whoever looks for it finds nothing.
        sys.modules[ADAPTERS] = None  # type: ignore[assignment]


def start_worker() -> None:
    """Run the module that the command line names, on the arguments behind it."""
    gc.disable()
    for library in PUT_OFF:
        put_off(library)
    hide_adapters(Path(sys.argv[-1]))
    sys.argv[:] = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    start_worker()
