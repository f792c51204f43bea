"""Measure the time and memory of a large study's dry run.

    .venv/bin/python -m bench.dag [50 500 5000] [--states fresh finished unrecorded]

Generates a study with so many cells in a temporary copy of the project and runs `snakemake -n` on
it, as a user would: a fresh study, of which every job would run; a finished one, of which none
would; and the finished one's files alone, as beside a fresh clone, whose stamps must then be read.
Their files are made by `bench.pretend`, which runs no job. CPU time stands beside the clock's,
since others may use the machine, and is parted into what this project's code took (settings,
digests, priorities: `bench.whose_time`) and Snakemake's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import command_line
from bench.project import copy_project
from bench.whose_time import OURS

ROOT = Path(__file__).parent.parent
CELLS_PER_SEED = 50  # 2 datasets x 5 models x 5 lengths
STATES = ("fresh", "finished", "unrecorded")
KIB, MIB = 2**10, 2**20


@dataclass
class Cost:
    """Time and memory of one dry run."""

    jobs: int
    wall_s: float
    cpu_s: float
    ours_s: float
    memory_mib: float


def study_text(cells: int) -> str:
    """Return a study of so many cells (a multiple of `CELLS_PER_SEED`), each predicted once."""
    if cells < 1 or cells % CELLS_PER_SEED:
        raise ValueError(f"{cells} cells cannot be generated; give a multiple of {CELLS_PER_SEED}")
    splits = {"train": 64, "validation": 12, "test": 4}
    options = {**splits, "answer_vocabulary": 8, "filler_vocabulary": 40}
    dataset = {"source": "needle", "metric": "f1", "training": {"max_target_tokens": 8}}
    model = {"family": "led", "initialisation": "random", "tokenizer": "bpe"}
    config = {
        "attention_window": 16,
        "max_encoder_position_embeddings": 1024,
        "max_decoder_position_embeddings": 32,
    }
    datasets = {
        f"needle{n}": {**dataset, "options": {**options, "words_per_document": 400 + n}}
        for n in range(2)
    }
    models = {f"led{n}": {**model, "config": {**config, "d_model": 16 * (n + 1)}} for n in range(5)}
    seeds = list(range(1, cells // CELLS_PER_SEED + 1))
    axes = {"seq_lens": [32, 64, 128, 256, 512], "seeds": seeds}
    document = {
        "title": f"{cells} cells",
        "datasets": datasets,
        "tokenizers": {"bpe": {"kind": "byte_level_bpe", "vocab_size": 600}},
        "models": models,
        "budgets": {"cpu": {"gpus": 0, "per_device_batch_size": 4}},
        "training": {"max_steps": 8, "validation": {"every_steps": 4, "max_examples": 6}},
        "inference": {"greedy": {"split": "validation"}},
        "grid": [{"datasets": [*datasets], "models": [*models], "budgets": ["cpu"], **axes}],
    }
    return yaml.safe_dump(document, sort_keys=False)


def create(folder: Path, cells: int) -> Path:
    """Copy the project into a new folder, with `studies/scale.yaml` of that many cells."""
    copy_project(ROOT, folder)
    (folder / "studies" / "scale.yaml").write_text(study_text(cells), encoding="utf-8")
    return folder


def pretend(project: Path) -> None:
    """Make every file and record of a finished study."""
    command = [sys.executable, "-m", "bench.pretend", "scale"]
    paths = {"PYTHONPATH": os.pathsep.join([str(project / "workflow" / "lib"), str(ROOT)])}
    done = subprocess.run(command, cwd=project, env={**environment(), **paths}, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.decode()[-2000:]}")


def forget(project: Path) -> None:
    """Remove Snakemake's records, since a fresh clone has none."""
    shutil.rmtree(project / ".snakemake")


def dry_run(project: Path) -> Cost:
    """Run `snakemake -n` and return what it took, with all its child processes."""
    options = ["-n", "--cores", "2", "--config", "study=scale"]
    command = [sys.executable, "-m", "bench.whose_time", *options]
    with_bench = {**environment(), "PYTHONPATH": str(ROOT)}  # beside the copied project's package
    before = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=project, env=with_bench, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - before
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{text[-2000:]}")
    total = re.search(r"^total +(\d+)$", text, flags=re.MULTILINE)
    ours = re.search(rf"^{re.escape(OURS)} ([0-9.]+)$", text, flags=re.MULTILINE)
    if not ours:
        raise RuntimeError(f"{' '.join(command)} did not say whose time it took:\n{text[-2000:]}")
    return Cost(
        jobs=int(total[1]) if total else 0,
        wall_s=wall_s,
        cpu_s=used.ru_utime + used.ru_stime,
        ours_s=float(ours[1]),
        memory_mib=used.ru_maxrss * KIB / MIB,
    )


def environment() -> dict[str, str]:
    """Return this process's variables without PYTHONPATH: the copy has its own package."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def measure(cells: int, states: Sequence[str]) -> Iterator[tuple[str, Cost]]:
    """Yield the costs of one study's dry runs, one for each of the states."""
    with tempfile.TemporaryDirectory() as folder:
        project = create(Path(folder) / "project", cells)
        for state in (state for state in STATES if state in states):
            if state == "finished" or (state == "unrecorded" and "finished" not in states):
                pretend(project)
            if state == "unrecorded":
                forget(project)
            yield state, dry_run(project)


def main() -> None:
    """Print a table of sizes, states and costs."""
    parser = command_line(__doc__)
    parser.add_argument(
        "cells", type=int, nargs="*", default=[50, 500, 5000], help=f"multiples of {CELLS_PER_SEED}"
    )
    parser.add_argument("--states", nargs="+", choices=STATES, default=STATES)
    given = parser.parse_args()
    times = f"{'wall s':>7}  {'CPU s':>7}  {'ours s':>7}  {'Snakemake s':>11}"
    print(f"{'cells':>6}  {'state':<10}  {'jobs to run':>11}  {times}  {'MiB':>6}")
    for cells in given.cells:
        for state, cost in measure(cells, given.states):
            parts = f"{cost.cpu_s:>7.1f}  {cost.ours_s:>7.1f}  {cost.cpu_s - cost.ours_s:>11.1f}"
            numbers = f"{cost.jobs:>11,}  {cost.wall_s:>7.1f}  {parts}  {cost.memory_mib:>6.0f}"
            print(f"{cells:>6,}  {state:<10}  {numbers}", flush=True)


if __name__ == "__main__":
    main()
