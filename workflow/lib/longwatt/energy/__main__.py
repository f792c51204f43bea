"""Meter any command, mark its phases, and print its energy.

Command line:
    longwatt energy record --out F [--gpus UUID,...|visible|all] [--interval-s S]
        [--idle-s S] [--label L] -- COMMAND ...
    longwatt energy mark NAME
    longwatt energy summarize energy.jsonl [--json] [--watts-per-core W|auto|none]
    longwatt energy jobs [FOLDER] [--json] [--watts-per-core W|auto|none]
    longwatt energy meters

Exit codes of `record`: the command's own (128 + N after signal N), 126 and 127 as a shell. It is 2
where the command cannot be metered as asked; the command is then not started.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from longwatt import command_line
from longwatt.command_line import parse_with_command
from longwatt.energy import marks, rated
from longwatt.energy.log import LOG_VARIABLE, LogError, compress
from longwatt.energy.meters import rapl
from longwatt.energy.meters.processor import processor_facts
from longwatt.energy.recorder import Order
from longwatt.energy.sidecar import IDLE_AFTER_S, RecorderError, Sidecar
from longwatt.energy.workflows.options import watts_option
from longwatt.gpus import listing
from longwatt.gpus.__main__ import NOT_EXECUTABLE, NOT_FOUND
from longwatt.gpus.leases import say_on_stderr
from longwatt.gpus.listing import GpuError

VISIBLE_GPUS, ALL_GPUS = "visible", "all"
# Signals that a user or a batch system may send to end or steer a command.
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
SI_KERNEL = 0x80  # <bits/siginfo-consts.h>: sent by the kernel, as a terminal's signals are
PRINTED_COLUMNS = (
    ("s", "duration_s", 1), ("J", "energy_j", 1), ("mean W", "mean_power_w", 1),
    ("peak W", "peak_power_w", 1), ("net J", "net_energy_j", 1),
    ("cross-check %", "crosscheck_pct", 2), ("util %", "mean_gpu_utilization_pct", 1),
    ("throttled %", "throttled_pct", 1),
)  # fmt: skip


def choose_gpus(wanted: str) -> list[str]:
    """Return the full UUIDs of the GPUs that are asked for.

    Args:
        wanted: `visible` (those that CUDA_VISIBLE_DEVICES leaves: all if it is unset, none if it is
            empty), `all` of the machine, or a list of UUIDs or indices with commas.

    Raises:
        longwatt.gpus.listing.GpuError: one of them is not here; the message names those that are.
            Or GPUs may work although NVML is absent, and the processors' energy would stand for
            theirs.
    """
    if wanted != VISIBLE_GPUS:
        devices = listing.present() if wanted == ALL_GPUS else listing.named(wanted, "--gpus")
        return [device.uuid for device in devices]
    devices, variable = listing.list_devices(), listing.VISIBLE_VARIABLE
    visible = os.environ.get(variable, "")
    named = any(listing.entries(visible))
    hidden = not devices and (named or Path("/dev/nvidia0").exists())
    if hidden and not listing.present():
        raise GpuError(
            f"{f'{variable}={visible} names GPUs' if named else '/dev/nvidia0 is here'}, but "
            "NVIDIA's library libnvidia-ml.so.1 is not, so that they cannot be metered; install it "
            "(in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility), or hide them: "
            f"{variable}= "
        )
    return [device.uuid for device in devices]


def record_command(arguments: argparse.Namespace, command: list[str]) -> int:
    """Run a command under a recorder and return its exit code."""
    order = Order(
        out=arguments.out,
        gpus=choose_gpus(arguments.gpus),
        interval_s=arguments.interval_s,
        facts={"label": arguments.label or command[0], "command": command},
        strict=True,
    )
    sidecar = Sidecar(order)
    status: int | None = None
    try:
        if sidecar.unmetered:
            say_on_stderr(f"no energy is measured here, only time: {sidecar.unmetered}")
        sidecar.idle("idle_before", arguments.idle_s)
        sidecar.mark(marks.UNNAMED)
        status = _run(command, sidecar)
        sidecar.idle("idle_after", arguments.idle_s)
    finally:
        sidecar.close(status)
        compress(Path(order.out))
    return status if status >= 0 else 128 - status


def print_summary(arguments: argparse.Namespace) -> int:
    """Print the numbers of a log."""
    from longwatt.energy.reduction import reduce  # numpy is needed only here

    watts = rated.watts_setting({rated.WATTS_KEY: arguments.watts_per_core})
    found = reduce.summarize_log(arguments.logs, watts)
    print(json.dumps(found, indent=1, allow_nan=False) if arguments.json else _text(found))
    return 0


def print_jobs(arguments: argparse.Namespace) -> int:
    """Print the runs of a workflow's jobs, whether it has ended or not."""
    from longwatt.energy.workflows.runs import read_runs  # numpy is needed only here
    from longwatt.energy.workflows.words import rows_in_words

    runs = read_runs(arguments.folder, arguments.watts_per_core)
    if arguments.json:
        rows = [dataclasses.asdict(run) for run in runs]
        print(json.dumps(rows, indent=1, allow_nan=False))
    else:
        print(tabulate(rows_in_words(runs), headers="keys", disable_numparse=True))
    return 0


def print_meters() -> int:
    """Print what energy rests on here: GPUs, the processors' counters, or an estimate."""
    devices = listing.list_devices()
    for device in devices:
        print(f"{device.uuid}  {device.name}: metered by NVML, if the job is on it")
    if not devices:
        print("GPUs: NVML shows none")
    counters = "read, so processors are metered" if rapl.can_be_read() else "none can be read"
    print(f"RAPL counters: {counters}")
    found = rated.rate(rated.AUTO_WATTS, processor_facts())
    watts = "NA" if found.watts is None else f"{found.watts:.3g} W per busy core, estimated"
    print(f"Processors without a meter: {watts} ({found.basis})")
    return 0


def set_mark(arguments: argparse.Namespace) -> int:
    """Begin a phase of the metered job that this shell is part of."""
    if not os.environ.get(LOG_VARIABLE):
        advice = "run the job with `longwatt energy record --out F -- JOB`"
        say_on_stderr(f"no energy log here to mark; {advice}")
        return 2
    marks.mark(arguments.name)
    return 0


def _run(command: list[str], sidecar: Sidecar) -> int:
    """Run a command, pass signals on, and return its status (negative after a signal)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*PASSED_ON, signal.SIGCHLD])
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, **sidecar.environ()},
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),
        )
        sidecar.watch(process.pid)
        while process.poll() is None:
            received = signal.sigwaitinfo([*PASSED_ON, signal.SIGCHLD])
            # A terminal's Ctrl-C reaches the command by itself.
            if received.si_signo != signal.SIGCHLD and received.si_code != SI_KERNEL:
                process.send_signal(received.si_signo)
        return process.returncode
    except OSError as error:
        say_on_stderr(f"{command[0]}: {error.strerror}; write a command that is on PATH after --")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _text(found: Mapping[str, Any]) -> str:
    titles = (title for title, _, _ in PRINTED_COLUMNS)
    rows = [("", *titles, "source", "flags"), _row("total", found)]
    rows += [_row(f"  {name}", facts) for name, facts in found["phases"].items()]
    for uuid, facts in found["gpus"].items():
        rows.append(_row(f"{uuid} {facts['name'] or ''}".strip(), facts))
        rows += [_row(f"  {name}", phase) for name, phase in facts["phases"].items()]
    if found["wasted"]["duration_s"]:
        rows.append(_row("wasted", found["wasted"]))
    first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([name.ljust(first), *map(str.rjust, cells, widths)]).rstrip()
        for name, *cells in rows
    ]
    basis = [f"estimated: {found['watts_basis']}"] if found["watts_basis"] else []
    return "\n".join([*lines, *basis, *(f"! {problem}" for problem in found["problems"])])


def _row(name: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (
        "NA" if facts[key] is None else f"{facts[key]:.{digits}f}"
        for _, key, digits in PRINTED_COLUMNS
    )
    source = "estimated" if facts["energy_source"] == "estimate" else facts["energy_source"]
    return (name, *numbers, source, ",".join(facts["flags"]))


def _interval(text: str) -> float:
    if 0.01 <= (value := command_line.finite(text)) <= 60:
        return value
    raise argparse.ArgumentTypeError("must be 0.01 to 60 seconds; sensors move every 0.1 s or so")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="longwatt energy", description="Meter the energy of a command."
    )
    verbs = made.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser(
        "record",
        help="run a command and log what its GPUs draw",
        usage="longwatt energy record --out energy.jsonl [--gpus UUID,...|visible|all] "
        "[--interval-s S] [--idle-s S] [--label L] -- COMMAND ...",
    )
    option = recording.add_argument
    option("--out", required=True, help="the log; one that is there gets a new segment")
    visible = "UUIDs, visible (default: CUDA_VISIBLE_DEVICES) or all"
    option("--gpus", default=VISIBLE_GPUS, help=visible)
    option("--interval-s", type=_interval, default=0.1, help="mean time between samples (0.1)")
    option(
        "--idle-s",
        type=command_line.number_from_zero,
        default=IDLE_AFTER_S,
        help="idle before and after (2)",
    )
    option("--label", default="", help="name in the log (default: the command)")
    marking = verbs.add_parser("mark", help="begin a phase of the metered command that runs this")
    marking.add_argument("name")
    printing = verbs.add_parser("summarize", help="print the numbers of a log")
    printing.add_argument("logs", type=Path, nargs="+", metavar="energy.jsonl")
    printing.add_argument("--json", action="store_true", help="print JSON")
    estimate = "of an estimate where nothing was measured: W, auto (the default) or none"
    printing.add_argument(
        "--watts-per-core", type=watts_option, default=rated.AUTO_WATTS, help=estimate
    )
    listing_jobs = verbs.add_parser("jobs", help="print the energy of a metered workflow's jobs")
    there = "the workflow's folder of energy (default: energy)"
    listing_jobs.add_argument("folder", type=Path, nargs="?", default=Path("energy"), help=there)
    listing_jobs.add_argument("--json", action="store_true", help="print JSON")
    as_metered = "W, auto or none (default: as the workflow was metered)"
    listing_jobs.add_argument("--watts-per-core", type=watts_option, help=as_metered)
    verbs.add_parser("meters", help="print what energy rests on here, without a meter too")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line that the module's docstring describes."""
    parsed, command = parse_with_command(parser(), "record", arguments)
    try:
        if parsed.verb == "record":
            return record_command(parsed, command)
        printing = {"summarize": print_summary, "jobs": print_jobs, "mark": set_mark}
        return print_meters() if parsed.verb == "meters" else printing[parsed.verb](parsed)
    except (GpuError, LogError, RecorderError) as error:
        say_on_stderr(str(error))
        return 2
    except KeyboardInterrupt:  # before the command or after it
        return command_line.INTERRUPTED


if __name__ == "__main__":
    command_line.run_command(main)
