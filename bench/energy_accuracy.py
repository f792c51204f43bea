"""Measure the error of energy figures, and the cost of measuring them.

    .venv/bin/python -m bench.energy_accuracy [--seconds 120] [--pairs 150] [--skip-overhead]

Needs gcc and no GPU: loads of known energy are played by the stand-in for NVML of tests/nvml on a
simulated clock, and read by longwatt's own recorder through pynvml. Beside it stands what the ways
of sampling of other tools would report of the same sensor, over all offsets of their clocks. Then
the recorder's CPU time at 8 GPUs and 10 Hz, and a training's speed with and without it.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from tests.nvml import A100, AVERAGE, TURING, WAVES, FakeGpu, Machine, can_build, uuid
from tests.nvml.simulate import simulate

from bench import command_line
from longwatt.energy.recorder import Order
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.energy.sidecar import Sidecar

IDLE_S = 3.0  # before and after the load
SENSORS = {
    "25 ms of every 100 ms (A100-like)": A100,
    "100 ms (Turing-like)": TURING,
    "mean of 1 s": AVERAGE,
}
OFFSETS = 48


def poll(gpu: FakeGpu, start: float, end: float, every_s: float, offset: float) -> float:
    """Return the mean of power readings at a fixed rate, times the time."""
    times, t = [], start + offset * every_s
    while t < end:
        times.append(t)
        t += every_s
    return sum(gpu.shows(t) for t in times) / len(times) * (end - start) if times else 0.0


def wandb(gpu: FakeGpu, start: float, end: float, offset: float) -> float:
    """Return wandb's energy: one power reading every 15 s."""
    return poll(gpu, start, end, 15.0, offset)


def wandb_older(gpu: FakeGpu, start: float, end: float, offset: float) -> float:
    """Return an older wandb's energy: means of 15 readings, 2 s apart, every 30 s."""
    points, t = [], start + offset * 2.0
    while t + 28 < end:
        points.append(sum(gpu.shows(t + 2.0 * n) for n in range(15)) / 15)
        t += 30.0
    return sum(points) / len(points) * (end - start) if points else 0.0


def codecarbon(gpu: FakeGpu, start: float, end: float, offset: float) -> float:
    """Return codecarbon's energy: differences of the counter every 15 s and at the end."""
    return gpu.counted(end) - gpu.counted(start)


def plain(gpu: FakeGpu, start: float, end: float, offset: float) -> float:
    """Return the energy of a loop that reads the power once a second."""
    return poll(gpu, start, end, 1.0, offset)


Tool = Callable[[FakeGpu, float, float, float], float]
OTHERS: dict[str, Tool] = {
    "wandb": wandb,
    "wandb, older": wandb_older,
    "1 Hz poll": plain,
    "codecarbon": codecarbon,
}


def ours(machine: Machine, gpu: FakeGpu, end: float, folder: Path) -> list[str]:
    """Return the errors (%) of longwatt's own figures.

    Returns:
        Those of the counter and of the integral over the load, and of the integral with the idle
        time around it.
    """
    out = folder / "energy.jsonl"
    found = []
    for marks in ([(gpu.on, "train", {}), (gpu.off, "idle_after", {})], []):
        out.unlink(missing_ok=True)
        simulate(machine, [gpu], out, end, marks=[(0.0, "run", {}), *marks])
        phases = summarize_log([out])["phases"]
        found.append(phases["train"] if marks else phases["run"])
    load, whole = found
    true, around = gpu.joules(gpu.on, gpu.off), gpu.joules(0, end)
    ratios = [load[f"energy_j_{kind}"] / true for kind in ("counter", "integral")]
    ratios.append(whole["energy_j_integral"] / around)
    return [f"{100 * (ratio - 1):+.2f}" for ratio in ratios]


def accuracy(machine: Machine, seconds: float, folder: Path) -> None:
    """Print a table of errors for every sensor, in % of the load's true energy."""
    for sensor, sees in SENSORS.items():
        shown = "error in %, over all offsets of a tool's clock"
        print(f"\nSensor: {sensor}; load of {seconds:g} s; {shown}\n")
        header = ["load", "our counter", "our integral", "our integral, idle to idle", *OTHERS]
        print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
        for name, wave in WAVES.items():
            # The edges fall anywhere between two moves of a counter.
            gpu = FakeGpu(on=IDLE_S + 0.037, off=IDLE_S + 0.037 + seconds, **wave, **sees)
            mine = ours(machine, gpu, gpu.off + IDLE_S, folder)
            others = [errors(gpu, tool) for tool in OTHERS.values()]
            print("| " + " | ".join([name, *mine, *others]) + " |")


def errors(gpu: FakeGpu, tool: Tool) -> str:
    """Return the range of a tool's errors (%) over all offsets of its clock."""
    true = gpu.joules(gpu.on, gpu.off)
    found = [100 * (tool(gpu, gpu.on, gpu.off, n / OFFSETS) / true - 1) for n in range(OFFSETS)]
    low, high = (f"{value:+.2f}" for value in (min(found), max(found)))
    return low if low == high else f"{low} to {high}"


def cpu_share(recorder: int, seconds: float) -> float:
    """Return a recorder's CPU time in % of one core."""
    time.sleep(1)  # its start is not its work
    process = psutil.Process(recorder)
    before, start = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    return 100 * (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - start)


def overhead(machine: Machine, seconds: float, pairs: int, folder: Path) -> None:
    """Print what the recorder costs at 8 GPUs and 10 Hz."""
    from bench.workload import Training, paired

    gpus = [FakeGpu(uuid=uuid(number), **AVERAGE) for number in range(8)]
    os.environ.update(machine.environment())  # of the recorder that is started from here
    machine.has(gpus)
    sidecar = Sidecar(Order(str(folder / "overhead.jsonl"), [gpu.uuid for gpu in gpus]))
    share = cpu_share(sidecar.pid, seconds)
    cost = f"{share:.2f} % of one core (target: at most 1 %)"
    print(f"\nRecorder, 8 GPUs at 10 Hz, {seconds:g} s: {cost}")
    ratio, low, high = paired(Training("cpu"), sidecar.pid, pairs)
    sidecar.close(0)
    print(
        f"Training on all cores of this CPU with the recorder over without, {pairs} pairs: "
        f"{ratio:.4f} (95 % interval {low:.4f} to {high:.4f}; target: at least 0.999)"
    )


def main() -> None:
    """Print errors, then what measuring costs."""
    parser = command_line(__doc__)
    lasts, pairs = "length of a load and of the CPU measurement", "of training with and without"
    parser.add_argument("--seconds", type=float, default=120.0, help=lasts)
    parser.add_argument("--pairs", type=int, default=150, help=f"pairs {pairs} the recorder")
    parser.add_argument("--skip-overhead", action="store_true", help="only the simulated accuracy")
    given = parser.parse_args()
    if not can_build():
        parser.error("no gcc here to build the stand-in for NVML")
    software = f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {software}")
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder)).build()
        accuracy(machine, given.seconds, Path(folder))
        if not given.skip_overhead:
            overhead(machine, given.seconds, given.pairs, Path(folder))


if __name__ == "__main__":
    main()
