"""Switch the meter of a Snakemake workflow on, from its Snakefile.

Snakemake runs every job by one function and starts every command by one class. Both are replaced
by ones that do the same and count. They are replaced in each process that reads the Snakefile: on
the machine at hand, in the process of a `run:` job, and on a cluster's node. A job's command, its
environment, its signals and its exit code stay as they are.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import shlex
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwatt.energy import rated
from longwatt.energy.workflows.job import JobMeter
from longwatt.energy.workflows.options import MeterError, watts_choice

ENERGY_RULES = Path(__file__).with_name("snakefiles") / "longwatt_energy.smk"
REPORT_RULE = "longwatt_energy"
NO_PAGE = (
    "longwatt: the rule {} runs a command and names no output, so nothing can be made after it; "
    f"make the page of energy by: snakemake {REPORT_RULE}"
)
TAKEN_ARGUMENTS = {
    "job_rule",
    "output",
    "wildcards",
    "threads",
    "resources",
}  # of Snakemake's run_wrapper


@dataclass(frozen=True)
class MeterSettings:
    """A workflow's choices.

    Attributes:
        folder: of all files, absolute.
        folder_name: the same as the Snakefile gave it.
        watts_per_core: `auto`, `none` or a number of watts.
        grams_per_kwh: CO2e of the grid's energy; None shows no CO2e.
    """

    folder: Path
    folder_name: str
    watts_per_core: float | str
    grams_per_kwh: float | None

    @property
    def command(self) -> str:
        """The shell command that writes the page."""
        grams = [] if self.grams_per_kwh is None else ["--grams-per-kwh", str(self.grams_per_kwh)]
        module = "longwatt.report.workflow_energy"
        choices = ["--watts-per-core", str(self.watts_per_core), *grams]
        return shlex.join([sys.executable, "-m", module, self.folder_name, *choices])


settings: MeterSettings | None = None
_current = threading.local()
_active: list[JobMeter] = []
_active_lock = threading.Lock()


def meter(
    workflow: Any,
    folder: str | Path = "energy",
    watts_per_core: float | str = rated.AUTO_WATTS,
    grams_per_kwh: float | None = None,
) -> None:
    """Meter all jobs of a Snakemake workflow, and show their energy in its report.

    It belongs at the end of the Snakefile; in one that is used as a module it does nothing. A rule
    `longwatt_energy` is added whose page belongs to the default target, so that it is made last.

    Args:
        workflow: Snakemake's own, which every Snakefile has.
        folder: for logs and pages, in the working folder.
        watts_per_core: watts of a busy core for estimates, `auto` (by the processor's rated power)
            or `none`.
        grams_per_kwh: grams of CO2e of one kWh; without it no CO2e is shown.

    Raises:
        MeterError: an argument is wrong, or no rule stands before the line.
    """
    global settings
    if settings is not None:  # an included Snakefile has the line too
        return
    if len(getattr(workflow, "modifier_stack", ())) > 1:  # its rules get other names
        return
    name = _folder_name(folder)
    watts, grams = watts_choice(watts_per_core), _grams(grams_per_kwh)
    chosen = MeterSettings(Path(name).resolve(), name, watts, grams)
    if workflow.default_target is None:  # an include does not set it
        first = next(iter(workflow.rules), None)
        if first is None:
            raise MeterError("no rule precedes meter(workflow); write it at the Snakefile's end")
        workflow.default_target = first.name
    settings = chosen
    workflow.include(str(ENERGY_RULES))
    _join_default_target(workflow)


def install(executor: Any, shell: Any) -> None:
    """Count in Snakemake's modules `snakemake.executors.local` and `snakemake.shell`."""
    wrapper, commands = getattr(executor, "run_wrapper", None), getattr(shell, "sp", None)
    takes = set(inspect.signature(wrapper).parameters) if wrapper is not None else set()
    if wrapper is None or commands is None or not takes >= TAKEN_ARGUMENTS:
        _warn("this version of Snakemake runs jobs in another way than longwatt knows")
        return
    executor.run_wrapper = _metered(wrapper)
    shell.sp = types.SimpleNamespace(**{**vars(commands), "Popen": CountedPopen})


class CountedPopen(subprocess.Popen[Any]):
    """A command whose CPU time is asked of the kernel when it is waited for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._job: JobMeter | None = getattr(_current, "job", None)
        super().__init__(*args, **kwargs)
        if self._job is not None:
            _try(self._job.began, self)

    def wait(self, timeout: float | None = None) -> int:
        """Wait as usual, and tell the job's meter what was used."""
        if self._job is None or timeout is not None or self.returncode is not None:
            return super().wait(timeout)
        try:
            _, status, used = os.wait4(self.pid, 0)
        except ChildProcessError:  # it was polled for meanwhile, as to be killed
            return super().wait()
        self.returncode = os.waitstatus_to_exitcode(status)
        _try(self._job.ended, used)
        return self.returncode


def _metered(run: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(run)

    @functools.wraps(run)
    def run_metered(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        job = _try(_begin, given)
        _current.job = job
        status = 1
        try:
            result = run(*args, **kwargs)
            status = 0
            return result
        finally:
            _current.job = None
            if job is not None:
                _try(_end, job, status)

    return run_metered


def _begin(given: Mapping[str, Any]) -> JobMeter | None:
    """Begin to meter a job, with what Snakemake gives to `run_wrapper`."""
    rule = given["job_rule"]
    if settings is None or rule.name == REPORT_RULE or rule.norun:
        return None
    facts = {
        "rule": str(rule.name),
        "wildcards": {name: str(value) for name, value in given["wildcards"].items()},
        "output": [str(path) for path in given["output"]],
        "threads": given["threads"],
        "resources": dict(given["resources"].items()),
        "watts_per_core": settings.watts_per_core,
    }
    job = JobMeter(settings.folder, facts, in_process=bool(rule.is_run))
    with _active_lock:
        _active.append(job)
        if len(_active) > 1:
            for one in _active:
                one.share_process()
    job.begin()
    return job


def _end(job: JobMeter, status: int) -> None:
    with _active_lock:
        _active.remove(job)
    job.close(status)


def _try(work: Callable[..., Any], *args: Any) -> Any:
    """Do a part of the metering. A job never fails by it."""
    try:
        return work(*args)
    except Exception as error:
        _warn(f"{type(error).__name__}: {error}")
        return None


@functools.cache
def _warn(problem: str) -> None:
    said = f"longwatt: a job's energy is not metered ({problem}); the workflow goes on"
    print(said, file=sys.stderr, flush=True)


def awaited(workflow: Any) -> list[Any]:
    """Return what the default target makes, or else what it asks for."""
    target = workflow.get_rule(workflow.default_target)
    return list(map(_as_given, target.output or target.input))


def _as_given(item: Any) -> Any:
    """Return a function with flags, as of `unpack`, as the Snakefile gave it."""
    given = getattr(item, "_file", None)
    return item if getattr(given, "callable", None) is None else given


def _join_default_target(workflow: Any) -> None:
    """Let the page belong to the default target, or become it."""
    target, report = (workflow.get_rule(n) for n in (workflow.default_target, REPORT_RULE))
    page = str(report.output[0])
    if not target.norun and not target.output:  # the page would be an input of its command
        if workflow.is_main_process:
            print(NO_PAGE.format(target.name), file=sys.stderr, flush=True)
        return
    collects = target.input and not target.output
    # A module's rule may have a prefix, which its inputs get and the page does not.
    if collects and target.apply_path_modifier(page, target.input_modifier, "input") == page:
        target.set_input(page)
    else:
        workflow.default_target = REPORT_RULE


def _folder_name(folder: str | Path) -> str:
    name = os.fspath(folder) if isinstance(folder, str | Path) else ""
    if name and not set(name) & set("{}"):
        return name
    raise MeterError(f"folder is {folder!r}; give the name of a folder, without braces")


def _grams(value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return value
    raise MeterError(f"grams_per_kwh is {value!r}; give grams of CO2e of one kWh, or leave it out")
