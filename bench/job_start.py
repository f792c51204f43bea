"""Measure what every kind of job takes until its work begins.

    python -m bench.job_start [--repeats 3]

Runs a tiny study with the jobs of the demo's kinds in a temporary copy of the project, in CPU
seconds, since others may use the machine. A job's script is a process of its own that begins its
work when it opens its log. Trainings and inferences start a worker (`longwatt.jobs.start`) and a
recorder. A worker begins its work with its first step or batch, once model and data are loaded.
`after` is what a worker takes once its work is done, to be taken apart. Numbers are medians.

Target: 3 CPU seconds from a training's or an inference's start to its work, script and recorder
included. The exit status says whether it was met.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import command_line
from bench.project import copy_project

ROOT = Path(__file__).parent.parent
MOST_S = 3.0
SHOWN = ("torch", "transformers", "datasets", "pandas", "matplotlib", "pyarrow", "numpy")
STUDY = """
title: Starts
datasets:
  needle:
    source: needle
    options: {words_per_document: 40, train: 64, validation: 12, test: 4, answer_vocabulary: 8,
              filler_vocabulary: 40}
    metric: f1
    training: {max_target_tokens: 8}
tokenizers:
  bpe: {kind: byte_level_bpe, vocab_size: 600}
models:
  led: &led
    family: led
    initialisation: random
    tokenizer: bpe
    config: &config {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
                     decoder_attention_heads: 2, encoder_ffn_dim: 16, decoder_ffn_dim: 16}
  bigbird: {family: bigbird_pegasus, initialisation: random, tokenizer: bpe, config: *config}
budgets:
  cpu: {gpus: 0, per_device_batch_size: 4}
training: {learning_rate: 1e-3, max_steps: 2, validation: {every_steps: 2, max_examples: 4}}
inference:
  greedy: {split: validation, batch_size: 12}
grid:
  - {datasets: [needle], models: [led, bigbird], seq_lens: [64], budgets: [cpu], seeds: [1]}
claims:
  led_scores:
    statement: LED is scored.
    random_weights: true
    tests:
      - difference: {column: score, of: {model: led}, to: {column: score_ceiling}, at_least: -100}
"""

Process = Mapping[str, Any]


def run(folder: Path) -> list[Process]:
    """Run the study in a copy of the project, and return the Python processes that it took."""
    project, out = folder / "project", folder / "starts.jsonl"
    copy_project(ROOT, project)
    (project / "studies/starts.yaml").write_text(STUDY, encoding="utf-8")
    paths = [str(Path(__file__).parent / "traced"), str(project / "workflow/lib")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "LONGWATT_BENCH_STARTS": str(out),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "study=starts"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the study failed:\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def kind_of(process: Process) -> str:
    """Return the rule of a script, `worker of RULE`, `recorder`, or "" for Snakemake itself."""
    words = process["command"]
    if "longwatt.energy.recorder" in words:
        return "recorder"
    if any(".spec" in word for word in words):
        module = next(word for word in words if word.startswith("longwatt.") and "jobs" not in word)
        return f"worker of {module.rpartition('.')[2]}"
    script = Path(words[0]).name.split(".")
    return script[1] if len(script) == 3 and script[2] == "py" else ""


def costs(processes: Sequence[Process]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each process's kind and its numbers, in CPU seconds."""
    for process in filter(kind_of, processes):
        kind, began = kind_of(process), process["began"]
        found = {
            "start": began.get("cpu_s", process["cpu_s"]),
            "whole": process["cpu_s"],
            "modules": process["modules"],
            "libraries": " ".join(name for name in SHOWN if name in process["libraries"]),
        }
        if kind.startswith("worker"):
            parent = next(one for one in processes if one["pid"] == process["parent"])
            children = [one for one in processes if one["parent"] == process["parent"]]
            found["after"] = parent["children_cpu_s"] - sum(one["cpu_s"] for one in children)
        yield kind, found


def medians(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the medians of one kind's numbers, and what all of its processes loaded."""
    kept: dict[str, Any] = {"libraries": found[0]["libraries"]}
    for name in ("start", "whole", "after", "modules"):
        values = [one[name] for one in found if name in one]
        kept[name] = statistics.median(values) if values else None
    return kept


def main() -> int:
    """Print a table by kind of process."""
    parser = command_line(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    by_kind = defaultdict(list)
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for kind, found in costs(run(Path(folder))):
                by_kind[kind].append(found)
    table = {kind: medians(found) for kind, found in by_kind.items()}
    print(f"{'process':28}{'start':>7}{'whole':>7}{'after':>7}{'modules':>9}  libraries")
    for kind, row in table.items():
        seconds = (
            f"{row[n]:7.2f}" if row[n] is not None else f"{'':7}"
            for n in ("start", "whole", "after")
        )
        print(f"{kind:28}{''.join(seconds)}{row['modules']:9.0f}  {row['libraries']}")
    starts = {
        rule: sum(table[kind]["start"] for kind in (rule, f"worker of {rule}", "recorder"))
        for rule in ("finetune", "predict")
    }
    print(", ".join(f"{rule} begins its work after {s:.2f} s" for rule, s in starts.items()))
    return int(max(starts.values()) > MOST_S)


if __name__ == "__main__":
    sys.exit(main())
