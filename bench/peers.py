"""Measure longwatt's training beside that of Hugging Face's own Trainer, on the same cells.

    python -m bench.peers [led_demo early_exit causal_lora ...] [--repeats 5] [--steps N]
                          [--device cpu|cuda] [--precision fp32|bf16] [--json FILE] [--list]

Both trainers get the same weights, examples, order, optimiser, schedule and precision. The other
one is a plain `transformers.Trainer` with the library's own collator and the model's own loss, and
its defaults otherwise. Each measurement is a process of its own, with one thread. For times they
come in pairs, of which either is first in turn.

It prints the median over pairs, with its range, of the CPU seconds of a step after a warm-up (wall
seconds on a GPU). The peak of memory while training is what a process takes beyond Python and the
libraries. It is measured once, by an allocator told to give freed memory back, since it repeats to
less than a per cent then. Beside them stands the largest relative difference of losses, step by
step. Cases whose name ends in `fast` compute attention by longwatt's own path, and show its gain.
Run it where nothing else runs.

Target: longwatt takes at most 1.03 times the time and 1.00 times the memory, with losses that
differ by 1e-5 at most (1e-3 by the fast path). The exit status says whether it was met.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import TrainerCallback

from bench import command_line, peer_cases
from bench.peer_cases import CASES, WARM_UP_STEPS, PeerCase
from longwatt.jobs.torch_device import memory_status, synchronize

OURS, THEIRS = "longwatt", "trainer"
ARMS = (OURS, THEIRS)
MOST_TIME, MOST_MEMORY = 1.03, 1.0
MOST_APART = {True: 1e-5, False: 1e-3}  # of losses, by whether both compute with equal code
MIB = 2**20
# Otherwise glibc keeps much of what is freed, and how much changes from run to run by some 5 %.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
Row = dict[str, Any]
Pair = Mapping[str, Row]  # one measurement of each arm


class Watch(TrainerCallback):  # type: ignore[misc]
    """Reads both clocks at the warm-up's end, and at the end of the last timed step."""

    def __init__(self, last: int, device: torch.device) -> None:
        self.ends, self.device = (WARM_UP_STEPS, last), device
        self.cpu, self.wall = list[float](), list[float]()

    def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        """Read the clocks, if it is time."""
        if state.global_step in self.ends:
            synchronize(self.device)
            self.cpu.append(time.process_time())
            self.wall.append(time.perf_counter())


def keep_losses(trainer: Any) -> list[torch.Tensor]:
    """Return a list that gains the loss of every micro-batch of a trainer."""
    losses, step = list[torch.Tensor](), trainer.training_step

    def keep(*args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = step(*args, **kwargs)
        losses.append(loss.detach())
        return loss

    trainer.training_step = keep
    return losses


def measure_arm(arm: str, case: PeerCase, folder: Path) -> Row:
    """Train a prepared case by one of the trainers.

    Returns:
        CPU and wall seconds of a step, the peak of memory in bytes, and all losses.
    """
    spec = peer_cases.read_spec(folder)
    device = torch.device("cuda" if spec.settings["budget"]["gpus"] else "cpu")
    held = memory_held()
    if arm == OURS:
        trainer = peer_cases.longwatt_trainer(spec)
    else:
        transformers.set_seed(spec.settings["seed"])
        trainer = peer_cases.plain_trainer(case, spec, folder)
    watch = Watch(WARM_UP_STEPS + case.steps, device)
    trainer.add_callback(watch)
    losses = keep_losses(trainer)
    forget_peak(device)
    trainer.train()
    peak = peak_beyond(device, held)
    seconds = {name: (clock[1] - clock[0]) / case.steps for name, clock in
               (("cpu_s", watch.cpu), ("wall_s", watch.wall))}  # fmt: skip
    return {**seconds, "peak_bytes": peak, "losses": [loss.item() for loss in losses]}


def memory_held() -> int:
    """Return the bytes that this process holds of memory by now."""
    gc.collect()
    return memory_status()["VmRSS"]


def forget_peak(device: torch.device) -> None:
    """Forget the peak of memory so far, which loading may have made."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_beyond(device: torch.device, held: int) -> int:
    """Return the peak of a GPU's memory, or of this process's beyond what it held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return memory_status()["VmHWM"] - held


def run_apart(
    name: str,
    folder: Path,
    given: argparse.Namespace,
    arm: str | None = None,
    more: Mapping[str, str] | None = None,
) -> Row:
    """Prepare a case, or measure one of its trainers, in a process of its own.

    Args:
        folder: of the prepared case.
        arm: the trainer, None to prepare.
        more: variables of the process's environment.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is on the standard error.
    """
    command = [sys.executable, "-m", "bench.peers", name, "--folder", str(folder)]
    command += ["--device", given.device, "--precision", given.precision]
    command += ["--steps", str(given.steps)] if given.steps else []
    command += ["--arm", arm] if arm else []
    alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = {**os.environ, **alone, **(more or {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], file=sys.stderr)
        done.check_returncode()
    result = folder / f"{arm}.json"
    return dict(json.loads(result.read_text(encoding="utf-8"))) if arm else {}


def measured(name: str, given: argparse.Namespace) -> tuple[list[Pair], Pair]:
    """Measure both trainers of a case: pairs for times, either of them first in turn, and memory.

    Returns:
        The pairs, and the one whose peak of memory counts.
    """
    pairs = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run_apart(name, folder, given)
        for number in range(given.repeats):
            order = ARMS[:: -1 if number % 2 else 1]
            pairs.append({arm: run_apart(name, folder, given, arm) for arm in order})
        return pairs, {arm: run_apart(name, folder, given, arm, GIVE_BACK) for arm in ARMS}


def ratios(pairs: Sequence[Pair], key: str) -> dict[str, float]:
    """Return the median, least and most of longwatt's value over the Trainer's, by pairs."""
    found = [pair[OURS][key] / pair[THEIRS][key] for pair in pairs]
    return {"ratio": statistics.median(found), "least": min(found), "most": max(found)}


def loss_difference(pairs: Sequence[Pair]) -> float:
    """Return the largest relative difference of two losses of a micro-batch, NaN for no number."""
    arms = ([pair[arm]["losses"] for pair in pairs] for arm in ARMS)
    ours, theirs = (torch.tensor(losses, dtype=torch.float64) for losses in arms)
    return float(((ours - theirs).abs() / theirs.abs()).max())


def judged(name: str, pairs: Sequence[Pair], memory: Pair, clock: str) -> Row:
    """Return a case's row: medians, ratios, the difference of losses and the targets missed."""
    taken, apart = ratios(pairs, clock), loss_difference(pairs)
    share = memory[OURS]["peak_bytes"] / memory[THEIRS]["peak_bytes"]
    missed = {
        "time": round(taken["ratio"], 2) > MOST_TIME,
        "memory": round(share, 2) > MOST_MEMORY,
        "losses": not apart <= MOST_APART[CASES[name].equal_code],  # nor where it is no number
    }
    medians = {
        f"{arm}_{key}": statistics.median(pair[arm][key] for pair in pairs)
        for arm in ARMS
        for key in ("cpu_s", "wall_s")
    }
    peaks = {f"{arm}_peak_bytes": memory[arm]["peak_bytes"] for arm in ARMS}
    found = {"case": name, "clock": clock, "time": taken, "memory": share, **medians, **peaks}
    return {**found, "loss_difference": apart, "missed": [part for part in missed if missed[part]]}


HEAD = (
    "case", "time, longwatt / Trainer", "ms a step, both", "peak memory, longwatt / Trainer",
    "MiB, both", "losses differ by", "target",
)  # fmt: skip


def describe(row: Mapping[str, Any]) -> str:
    """Return one row as a line of a Markdown table."""
    times = "{ratio:.3f} ({least:.3f} to {most:.3f})".format(**row["time"])
    clock = row["clock"]
    steps = " / ".join(f"{1000 * row[f'{arm}_{clock}']:.1f}" for arm in ARMS)
    peaks = " / ".join(f"{row[f'{arm}_peak_bytes'] / MIB:.0f}" for arm in ARMS)
    said = f"missed: {', '.join(row['missed'])}" if row["missed"] else "met"
    apart = f"{row['loss_difference']:.1e}"
    cells = [row["case"], times, steps, f"{row['memory']:.3f}", peaks, apart, said]
    return "| " + " | ".join(cells) + " |"


def table(found: Mapping[str, Any]) -> str:
    """Return everything for a reader, as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    about = f"{found['device']}, {found['precision']}, {found['repeats']} pairs, {versions}"
    lines = [about, "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *map(describe, found["rows"])])


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all of them, if not given")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of each case")
    parser.add_argument("--steps", type=int, help="timed steps; each case has its own number")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--json", type=Path, help="write everything there too")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    for name in given.cases:
        if name not in CASES:
            parser.error(f"there is no case {name!r}; there are {', '.join(CASES)}")
    return given


def device_changes(given: argparse.Namespace) -> dict[str, Any]:
    """Return what a device and a precision change of a study."""
    budget = {"gpus": int(given.device == "cuda"), "precision": given.precision}
    return {"budgets": {"cpu": budget}}


def in_this_process(given: argparse.Namespace) -> None:
    """Prepare a case in a folder, or measure one of its trainers there."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    (name,) = given.cases
    case = CASES[name] if given.steps is None else replace(CASES[name], steps=given.steps)
    if given.arm is None:
        peer_cases.prepare(case, given.folder, device_changes(given))
        return
    found = measure_arm(given.arm, case, given.folder)
    (given.folder / f"{given.arm}.json").write_text(json.dumps(found), encoding="utf-8")


def measure_all(given: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen cases, and add the device and the versions."""
    clock, rows = "cpu_s" if given.device == "cpu" else "wall_s", []
    for name in given.cases or CASES:
        rows.append(judged(name, *measured(name, given), clock))
        print(describe(rows[-1]), file=sys.stderr, flush=True)
    device = torch.cuda.get_device_name() if given.device == "cuda" else "one thread of a CPU"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    known = {"device": device, "precision": given.precision, "repeats": given.repeats}
    return {**known, "versions": versions, "rows": rows}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print and write; return whether a target was missed."""
    given = arguments(words)
    if given.list:
        print(*CASES, sep="\n")
        return 0
    if given.folder:
        in_this_process(given)
        return 0
    found = measure_all(given)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(any(row["missed"] for row in found["rows"]))


if __name__ == "__main__":
    sys.exit(main())
