"""Measure how a training's speed depends on threads that spin while they wait.

    python -m bench.threads [--threads 2] [--seconds 20] [--rounds 5]
                            [--policies DEFAULT SPIN=10000] [--only quiet|busy] [--out FILE.json]

Trains a tiny LED (64 wide, 32 inputs of 256 tokens a step) in a process of its own for each
measurement, since OpenMP reads its variables once. A round measures every policy quiet and beside
one process that never sleeps, in turns that change from round to round. It prints medians of steps
per second, and the median over rounds of each policy's speed over the default's. Run it where
nothing else runs.

Target: the policy that longwatt sets (SPIN=10000) is at least 0.97 times as fast as the default
when it is quiet, and at least as fast when it is not. The exit status says whether it was met.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import command_line
from longwatt.jobs.waiting import DECIDED_BY, POLICY, TURNS

DEFAULT = "DEFAULT"  # neither variable is set
SPIN = "SPIN="  # SPIN=1000 is GOMP_SPINCOUNT=1000
OURS = f"{SPIN}{TURNS}"
QUIET, BUSY = "quiet", "busy"
BATCH, LENGTH, WIDTH = 32, 256, 64
WARM_UP_STEPS = 3
AT_LEAST = 0.97
Speeds = dict[tuple[str, str], list[float]]


def environment(policy: str, threads: int) -> dict[str, str]:
    """Return this process's environment with a policy and a number of threads."""
    kept = {name: value for name, value in os.environ.items() if name not in DECIDED_BY}
    chosen = {POLICY: policy} if policy != DEFAULT else {}
    if policy.startswith(SPIN):
        chosen = {"GOMP_SPINCOUNT": policy.removeprefix(SPIN)}
    return {**kept, **chosen, "OMP_NUM_THREADS": str(threads)}


def measure(policy: str, threads: int, seconds: float) -> float:
    """Return the steps per second of a training in a new process."""
    command = [sys.executable, "-m", "bench.threads", "--train", str(seconds)]
    made = environment(policy, threads)
    done = subprocess.run(command, env=made, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def train(seconds: float) -> float:
    """Train for some seconds after a warm-up and return the steps per second."""
    import torch
    from transformers import LEDConfig, LEDForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"layers": 2, "attention_heads": 2, "ffn_dim": 4 * WIDTH}
    alike = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in sizes.items()}
    config = LEDConfig(
        **alike,
        vocab_size=1000,
        d_model=WIDTH,
        attention_window=32,
        max_encoder_position_embeddings=LENGTH,
        max_decoder_position_embeddings=64,
    )
    model = LEDForConditionalGeneration(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    inputs = torch.randint(5, 1000, (BATCH, LENGTH))
    labels = torch.randint(5, 1000, (BATCH, 16))

    def step() -> None:
        loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(WARM_UP_STEPS):
        step()
    start, steps = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        step()
        steps += 1
    return steps / passed


@contextmanager
def beside(load: str) -> Iterator[None]:
    """Run a process that never sleeps meanwhile, or none if the load is quiet."""
    if load == QUIET:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


def measure_all(policies: Sequence[str], loads: Sequence[str], given: argparse.Namespace) -> Speeds:
    """Measure every policy under every load, once a round."""
    found: Speeds = {}
    for number in range(given.rounds):
        for load in loads:
            # Another one first in every round: what drifts hits all alike.
            first = number % len(policies)
            for policy in [*policies[first:], *policies[:first]]:
                with beside(load):
                    speed = measure(policy, given.threads, given.seconds)
                found.setdefault((load, policy), []).append(speed)
                line = f"round {number + 1}: {load:5}  {policy:10} {speed:7.3f} steps/s"
                print(line, file=sys.stderr)
    return found


def ratio(found: Speeds, load: str, policy: str) -> float:
    """Return the median over rounds of a policy's speed over the default's."""
    pairs = zip(found[load, policy], found[load, DEFAULT], strict=True)
    return statistics.median(mine / default for mine, default in pairs)


def report(found: Mapping[tuple[str, str], Sequence[float]], threads: int) -> str:
    """Return the medians as a Markdown table."""
    head = f"| {threads} threads | policy | steps/s | slowest to fastest | over the default |"
    lines = [head, "|---|---|---|---|---|"]
    for (load, policy), speeds in found.items():
        over = f"{ratio(dict(found), load, policy):.3f}" if (load, DEFAULT) in found else "NA"
        ends = f"{min(speeds):.3f} to {max(speeds):.3f}"
        lines.append(f"| {load} | {policy} | {statistics.median(speeds):.3f} | {ends} | {over} |")
    return "\n".join(lines)


def met(found: Speeds) -> bool:
    """Return whether the measured speeds meet the target."""
    least = {QUIET: AT_LEAST, BUSY: 1.0}
    known = [load for load in least if (load, OURS) in found and (load, DEFAULT) in found]
    return all(ratio(found, load, OURS) >= least[load] for load in known)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    lasts, policies = "of each measurement, after a warm-up", "DEFAULT, PASSIVE, ACTIVE, SPIN=N"
    parser.add_argument("--seconds", type=float, default=20.0, help=lasts)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policies", nargs="+", default=[DEFAULT, OURS], help=policies)
    parser.add_argument("--only", choices=[QUIET, BUSY])
    parser.add_argument("--out", type=Path, help="where to write every speed as JSON")
    parser.add_argument("--train", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train is not None:
        print(train(given.train))
        return 0
    found = measure_all(given.policies, [given.only] if given.only else [QUIET, BUSY], given)
    print(report(found, given.threads))
    if given.out:
        names = ("load", "policy", "steps_per_second")
        rows = [dict(zip(names, (*key, speeds), strict=True)) for key, speeds in found.items()]
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if met(found) else 1


if __name__ == "__main__":
    sys.exit(_main())
