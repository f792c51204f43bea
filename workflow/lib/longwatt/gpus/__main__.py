"""List GPUs or lease them to a command."""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict

from longwatt import command_line
from longwatt.command_line import parse_with_command
from longwatt.gpus.leases import LeaseTimeout, holder, lease, say_on_stderr
from longwatt.gpus.listing import GpuError, list_devices

TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as in a shell


def _print_list(as_json: bool) -> int:
    held = [(device, holder(device.uuid)) for device in list_devices()]
    if as_json:
        rows = [{**asdict(device), "held_by": who and asdict(who)} for device, who in held]
        print(json.dumps(rows, indent=1))
        return 0
    if not held:
        print("no GPU is visible here (no NVIDIA driver, or CUDA_VISIBLE_DEVICES hides all)")
    for device, who in held:
        index = "-" if device.index is None else device.index
        memory = "NA" if device.memory_gib is None else f"{device.memory_gib:.1f} GiB"
        state = f"held by {who}" if who else "free"
        print(f"{index}  {device.uuid}  {device.name}  {memory}  {state}")
    return 0


def _exec_with_lease(arguments: argparse.Namespace, command: list[str]) -> int:
    taken = lease(arguments.count, wait_s=arguments.wait_s, label=arguments.label or command[0])
    taken.keep_across_exec()
    os.environ.update(taken.environ())
    # Python ignores these; a command that inherited that would not die of a closed pipe.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        say_on_stderr(f"{command[0]}: {error.strerror}; write a command that is on PATH after --")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not value >= 0:  # NaN neither
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="longwatt gpus", description="List or lease this machine's GPUs."
    )
    verbs = made.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="print every visible GPU and who holds it")
    listing.add_argument("--json", action="store_true", help="print JSON")
    leasing = verbs.add_parser(
        "lease",
        help="run a command on GPUs that nobody else leases meanwhile",
        usage="longwatt gpus lease --count N [--wait-s S] [--label L] -- COMMAND ...",
    )
    leasing.add_argument("--count", type=_count, required=True, help="how many GPUs, all or none")
    limit = "longest wait in seconds (default: for ever; 0: try once)"
    leasing.add_argument("--wait-s", type=_seconds, help=limit)
    leasing.add_argument("--label", default="", help="shown to others (default: the command)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line that the module's docstring describes."""
    parsed, command = parse_with_command(parser(), "lease", arguments)
    try:
        if parsed.verb == "list":
            return _print_list(parsed.json)
        return _exec_with_lease(parsed, command)
    except GpuError as error:
        say_on_stderr(str(error))
        return TEMPORARY_FAILURE if isinstance(error, LeaseTimeout) else 2
    except KeyboardInterrupt:
        return command_line.INTERRUPTED


if __name__ == "__main__":
    command_line.run_command(main)
