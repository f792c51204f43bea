"""Measure one cell on all cores against several cells at once with their share of the cores.

    python -m bench.cells_at_once [--models led_tiny d256] [--cores 2] [--seconds 20] [--rounds 5]
                                  [--loads quiet busy] [--unpinned] [--out FILE.json]

Each cell is a process of its own that trains a random LED: the demo's (64 wide, 32 inputs of 256
tokens a step), or one 256 wide (4 inputs of 2,048 tokens). The cells that run at once have equal
shares of the cores as threads, and lease and bind them as a job does (`longwatt.jobs.pinning`). A
round measures every number of cells that divides the cores, quiet and beside one process that never
sleeps, in turns that change from round to round. Run it where nothing else runs.

For every model and load it prints medians over rounds: the wall time for each step of a cell
(seconds over the steps of all cells), the steps per second of all cells over those of one cell on
all cores, and how fast the slowest cell was over the fastest. `plan.cell_cores.SMALL_WORK` rests on
these ratios, and is compared with the work in the table. The exit status says whether the rule
chose the faster way of each model when it was quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import command_line
from bench.threads import BUSY, QUIET, beside
from longwatt.gpus.leases import say_on_stderr
from longwatt.jobs import pinning, waiting
from longwatt.plan.cell_cores import SMALL_WORK

WARM_UP_STEPS = 3
VOCABULARY = 4000
TARGETS = 16  # tokens of a target
START_S = 3.0  # between the last cell's readiness and the common start


@dataclass(frozen=True)
class Sizes:
    """A model and its batch.

    Attributes:
        width: of the model; its feed-forward blocks are `ffn` wide.
        layers, heads: of the encoder and of the decoder.
        window: tokens around it that a token attends to.
        examples, length: of a batch.
    """

    width: int
    ffn: int
    layers: int
    heads: int
    window: int
    examples: int
    length: int

    @property
    def work(self) -> float:
        """Tokens of a batch times the square of the width, as `longwatt.plan.cell_cores`."""
        return float(self.examples * self.length * self.width**2)

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration as a study has it."""
        each = {"layers": self.layers, "attention_heads": self.heads, "ffn_dim": self.ffn}
        sides = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in each.items()}
        positions = {"encoder": self.length, "decoder": 128}
        most = {f"max_{side}_position_embeddings": n for side, n in positions.items()}
        return {
            "d_model": self.width,
            "attention_window": self.window,
            "dropout": 0,
            **sides,
            **most,
        }


MODELS = {
    "led_tiny": Sizes(64, 128, 1, 4, 32, 32, 256),
    "d256": Sizes(256, 1024, 4, 4, 256, 4, 2048),
}
Measured = dict[tuple[str, str, int], list[list[float]]]  # a cell's steps/s, by round and cell


def shares(cores: int) -> list[int]:
    """Return how many cells may share so many cores equally, one first."""
    return [count for count in range(1, cores + 1) if cores % count == 0]


def measure(model: str, cells: int, given: argparse.Namespace) -> list[float]:
    """Train so many cells at once, and return the steps per second of each."""
    threads = given.cores // cells
    command = [sys.executable, "-m", "bench.cells_at_once", "--train", model]
    command += ["--cores", str(threads), "--seconds", str(given.seconds)]
    command += ["--unpinned"] if given.unpinned else []
    variables = {**os.environ, **waiting.thread_environment(os.environ)}
    variables["OMP_NUM_THREADS"] = str(threads)
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": variables}
    running = [subprocess.Popen(command, **how) for _ in range(cells)]
    for process in running:
        process.stdout.readline()  # it is warm
    start = time.monotonic() + START_S
    for process in running:
        process.stdin.write(f"{start}\n")
        process.stdin.flush()
    return [float(process.communicate()[0].split()[-1]) for process in running]


def train(model: str, given: argparse.Namespace) -> None:
    """Train in this process: say that it is warm, wait for the common start, say the speed."""
    with pinning.own_cores(0 if given.unpinned else given.cores, model, say_on_stderr) as cores:
        pinning.bind(cores)
        step = step_of(MODELS[model])
        for _ in range(WARM_UP_STEPS):
            step()
        print("warm", flush=True)
        time.sleep(max(0.0, float(sys.stdin.readline()) - time.monotonic()))
        start, steps = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < given.seconds:
            step()
            steps += 1
        print(steps / passed, flush=True)


def step_of(sizes: Sizes) -> Callable[[], None]:
    """Return one optimiser step of a random model on random tokens, as longwatt builds it."""
    import torch

    from longwatt.models.family import Example
    from longwatt.models.led import FAMILY

    torch.manual_seed(0)
    family = FAMILY()
    built = family.build({"config": sizes.config}, _tokenizer(), None, sizes.length, TARGETS)
    optimizer = torch.optim.AdamW(built.parameters(), lr=1e-4)
    drawn = torch.randint(5, VOCABULARY, (sizes.examples, sizes.length + TARGETS)).tolist()
    texts = [Example(str(n), ids[TARGETS:], ids[:TARGETS], ()) for n, ids in enumerate(drawn)]
    batch = family.collate(texts, None, None)

    def step() -> None:
        family.loss(built, batch).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _tokenizer() -> Any:
    """Make a tokenizer of so many words, of which a model is built."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    special = ("<s>", "<pad>", "</s>", "<unk>")
    words = [*special, *(f"w{number}" for number in range(VOCABULARY - len(special)))]
    known = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    roles = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=known, **roles)


def measure_all(given: argparse.Namespace) -> Measured:
    """Measure every model, load and number of cells, once a round."""
    found: Measured = {}
    ways = [(model, cells) for model in given.models for cells in shares(given.cores)]
    for number in range(given.rounds):
        first = number % len(ways)  # another one first in every round: what drifts hits all alike
        for load in given.loads:
            for model, cells in [*ways[first:], *ways[:first]]:
                with beside(load):
                    speeds = measure(model, cells, given)
                found.setdefault((model, load, cells), []).append(speeds)
                line = f"round {number + 1}: {load:5}  {model:8} {cells} at once: {speeds} steps/s"
                print(line, file=sys.stderr)
    return found


def ratio(found: Measured, model: str, load: str, cells: int) -> float:
    """Return the median over rounds of all cells' steps per second over those of one cell."""
    pairs = zip(found[model, load, cells], found[model, load, 1], strict=True)
    return statistics.median(sum(all_) / sum(one) for all_, one in pairs)


def report(found: Measured, cores: int) -> str:
    """Return the medians as a Markdown table."""
    head = "| model | work | load | cells x threads | s per cell-step | over one cell | slowest |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for (model, load, cells), rounds in found.items():
        wall = statistics.median(1 / sum(speeds) for speeds in rounds)
        even = statistics.median(min(speeds) / max(speeds) for speeds in rounds)
        over = ratio(found, model, load, cells)
        way = f"{cells} x {cores // cells}"
        work = f"{MODELS[model].work:.1e}"
        row = (model, work, load, way, f"{wall:.4f}", f"{over:.3f}", f"{even:.3f}")
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def met(found: Measured, cores: int) -> bool:
    """Return whether the rule of `auto` chose the faster way of each model when it was quiet."""
    known = {model for model, load, _ in found if load == QUIET}
    one_core_each = {model: MODELS[model].work <= SMALL_WORK for model in known}
    return all(
        (ratio(found, model, QUIET, cores) > 1) == chosen for model, chosen in one_core_each.items()
    )


def _main() -> int:
    parser = command_line(__doc__)
    lasts = "of each measurement, after a warm-up"
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=20.0, help=lasts)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", nargs="+", choices=[QUIET, BUSY], default=[QUIET, BUSY])
    parser.add_argument("--unpinned", action="store_true", help="bind no cell to cores")
    parser.add_argument("--out", type=Path, help="where to write every speed as JSON")
    parser.add_argument("--train", choices=list(MODELS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train is not None:
        train(given.train, given)
        return 0
    found = measure_all(given)
    print(report(found, given.cores))
    if given.out:
        names = ("model", "load", "cells", "steps_per_second")
        rows = [dict(zip(names, (*key, rounds), strict=True)) for key, rounds in found.items()]
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if met(found, given.cores) else 1


if __name__ == "__main__":
    sys.exit(_main())
