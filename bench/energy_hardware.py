"""Compare the energy readings of a real GPU with one another.

    .venv/bin/python -m bench.energy_hardware [--seconds 120] [--repeats 3] [--pairs 150]

On one visible GPU: the counter against the integral of the power samples over a steady and a
stop-and-go load, how much repeats differ, how often counter and sensors move, and a training's
speed with and without the recorder. Prints Markdown for docs/explanation/energy_accuracy.md.
"""

from __future__ import annotations

import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench import command_line
from bench.workload import Training, paired
from longwatt.energy.__main__ import choose_gpus
from longwatt.energy.meters.nvml import GpuMeters
from longwatt.energy.recorder import Order
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.energy.sidecar import Sidecar

IDLE_S = 5.0
LOADS = {"steady": {}, "stop and go (2 s, 2 s)": {"busy_s": 2.0, "pause_s": 2.0}}


def measure(
    training: Training, gpu: str, seconds: float, load: dict[str, float], folder: Path
) -> dict[str, Any]:
    """Measure the energy of one run of a load, in all and per step."""
    log = folder / "energy.jsonl"
    log.unlink(missing_ok=True)
    sidecar = Sidecar(Order(str(log), [gpu]))
    sidecar.idle("idle_before", IDLE_S)
    sidecar.mark("train")
    steps = training.run(seconds, **load)
    training.synchronize()
    sidecar.idle("idle_after", IDLE_S)
    sidecar.close(0)
    phase = summarize_log([log])["phases"]["train"]
    return {**phase, "joules_per_step": phase["energy_j"] / steps if phase["energy_j"] else None}


def update_steps(training: Training, gpu: str, seconds: float) -> dict[str, float]:
    """Return the median seconds between two values of each reading while the GPU works."""
    sensors = GpuMeters([gpu])
    reads: dict[str, Callable[[], Any]] = {
        "counter": lambda: sensors.counters_mj()[1][0],
        "instant power": lambda: sensors.powers_mw()[0][0],
        "mean power": lambda: sensors.powers_mw()[1][0],
    }
    steps = {name: _step(training, read, seconds) for name, read in reads.items()}
    return {name: step for name, step in steps.items() if step is not None}


def _step(training: Training, read: Callable[[], Any], seconds: float) -> float | None:
    moves, before, start = [], read(), time.perf_counter()
    if before is None:
        return None
    while (now := time.perf_counter()) - start < seconds:
        training.step()
        value = read()
        if value != before:
            moves.append(now)
            before = value
    training.synchronize()
    gaps = [b - a for a, b in itertools.pairwise(moves)]
    return statistics.median(gaps) if gaps else None


def describe(gpu: str) -> str:
    """Return a line about the GPU, its driver and the software around it."""
    found = GpuMeters([gpu]).describe()[0]
    sensors, date = ", ".join(found["sensors"]), time.strftime("%Y-%m-%d")
    return (
        f"{found['name']}, driver {found['driver']}, power limit {found['power_limit_w']:g} W, "
        f"sensors {sensors}; torch {torch.__version__}, Python {platform.python_version()}, {date}"
    )


def _number(value: float | None, digits: int) -> str:
    return "NA" if value is None else f"{value:.{digits}f}"


def print_loads(training: Training, gpu: str, seconds: float, repeats: int, folder: Path) -> None:
    """Print counter, integral and the spread of repeats for every load."""
    check, watts = "integral against counter (%)", "mean W | idle W | J/step varies (%)"
    print(f"\n| load of {seconds:g} s | counter (J) | {check} | {watts} |\n|" + " --- |" * 6)
    for name, load in LOADS.items():
        runs = [measure(training, gpu, seconds, load, folder) for _ in range(repeats)]
        checks = ", ".join(_number(run["crosscheck_pct"], 2) for run in runs)
        costs = [run["joules_per_step"] for run in runs if run["joules_per_step"]]
        varies = 100 * statistics.stdev(costs) / statistics.mean(costs) if len(costs) > 1 else None
        values = [(runs[0][key], 1) for key in ("energy_j_counter", "mean_power_w", "idle_power_w")]
        counter, mean, idle = (_number(value, digits) for value, digits in values)
        print(f"| {name} | {counter} | {checks} | {mean} | {idle} | {_number(varies, 2)} |")


def print_overhead(training: Training, gpu: str, pairs: int, folder: Path) -> None:
    """Print a training's speed with the recorder over that without it."""
    sidecar = Sidecar(Order(str(folder / "paired.jsonl"), [gpu]))
    ratio, low, high = paired(training, sidecar.pid, pairs)
    sidecar.close(0)
    found = f"{ratio:.4f} ({low:.4f} to {high:.4f})"
    print(f"\nTraining with the recorder over without, {pairs} pairs: {found}")


def main() -> None:
    """Print loads, steps of the readings, and the recorder's cost."""
    parser = command_line(__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="length of each load")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each load")
    pairs = "pairs of training with and without the recorder"
    parser.add_argument("--pairs", type=int, default=150, help=pairs)
    rehearsal = "cpu rehearses this script beside a GPU that it does not load"
    parser.add_argument("--device", default="cuda", help=rehearsal)
    given = parser.parse_args()
    gpus = choose_gpus("visible")
    if not gpus or (given.device == "cuda" and not torch.cuda.is_available()):
        parser.error("no GPU is visible here, or this torch cannot use it")
    width = 2048 if given.device == "cuda" else 64
    print(describe(gpus[0]))
    with tempfile.TemporaryDirectory() as folder:
        training = Training(given.device, width=width, length=512 if given.device == "cuda" else 32)
        training.run(3.0)
        print_loads(training, gpus[0], given.seconds, given.repeats, Path(folder))
        for name, step in update_steps(training, gpus[0], 5.0).items():
            print(f"\n{name}: a new value every {1000 * step:.0f} ms (median)")
        print_overhead(training, gpus[0], given.pairs, Path(folder))


if __name__ == "__main__":
    main()
