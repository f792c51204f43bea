"""Measure how well the published grid packs onto 8 GPUs, hours scaled to seconds.

    python -m bench.packing [--scheduler longwatt greedy ilp] [--seconds 300] [--seed 0] [--blind]
                            [--patience 0]

Snakemake, workflow, profile, scheduler and leases are the real ones. The jobs of its 64 cells sleep
(`bench.stand_in_stages`) on stand-in GPUs. Prints one JSON object for each scheduler and fails if
two jobs ever held one GPU.

**Durations.** A training takes DATASET_H x (length / 1024) x MODEL / GPUs ** 0.9 hours (several
GPUs lose some time in talking to each other), which gives the published 48 h and 14 h of BigBird
and LED-large on GovReport at 4096 tokens. It is multiplied by 2 ** u, u uniform in [-1, 1] and
drawn by seed and cell. Predicting takes 3 % of a training. Datasets arrive in the order that is
worst for packing: those of one-GPU cells first.

**Predictions.** The study has the summary.csv of an earlier run that took the usual times, u = 0,
so `priority:` is off by up to 2 in both directions. With `--blind` it has none, as when it runs for
the first time: `longwatt.plan.runtimes` then predicts from operations alone, and shares nothing
with the formula above.

**Lower bound.** From the durations that jobs really took, process start to end. No schedule ends
before

- the first cell's data are there, plus all GPU-seconds / 8;
- the first cell's data are there, plus all 8-GPU jobs, beside which nothing runs, plus the longest
  other cell;
- any one cell's data are there, plus its training and its predictions.

The makespan counts from the start of the first job to the end of the last one with a GPU.

**Waits.** From the time a cell's inputs are ready to its training's start. Times in which other
8-GPU jobs ran are left out, and so are Snakemake's pauses between two of these. Each wait stands
beside the longest job that ran meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from bench import command_line
from bench.stand_in_gpus import environment
from bench.stand_in_stages import make_project, read_log, write_plan
from longwatt.config.studies import read_study
from longwatt.plan.urgency import runtimes
from longwatt.study.cells import Cell
from longwatt.study.checks import checked_stages
from longwatt.study.stages import Stages

ROOT = Path(__file__).parent.parent
GRID = ROOT / "studies" / "paper_as_published.yaml"
STUDY = "packing"
GPUS = 8
CORES = 17  # two for each GPU, and one that no training holds
# A GPU idles because it is held back or because Snakemake takes its time: for pauses below this.
PAUSE_S = 0.5
TARGET = 1.04  # times the lower bound

# Hours of LED-base at 1024 tokens on one GPU (as the square root of a dataset's rows), and the
# factors of the other models.
DATASET_H = {"gov_report": 2.4, "summ_screen_fd": 1.1, "qmsum": 0.65, "qasper": 0.9}
MODEL = {"led_base": 1.0, "led_large": 1.46, "bigbird_large": 5.0}
PREDICTING = 0.03
# Seconds until a dataset is there, whatever the scale: a job's own pause is about 0.2 s.
ARRIVAL_S = {"qmsum": 0.2, "summ_screen_fd": 0.6, "qasper": 1.2, "gov_report": 2.0}
# Rows and words of SCROLLS (arXiv 2204.07288).
ROWS = {
    "gov_report": (17457, 972),
    "summ_screen_fd": (3673, 338),
    "qmsum": (1257, 272),
    "qasper": (2567, 1726),
}
WORDS = {"gov_report": 7897, "summ_screen_fd": 5639, "qmsum": 10396, "qasper": 3671}
READ_LATER = ("claims", "figures", "published")  # parts of the study that no stand-in makes


def published_study() -> dict[str, Any]:
    """Return the published grid with generated data and models of the published sizes."""
    study = read_study(GRID, ROOT / "workflow" / "schemas" / "study.schema.json")
    for name, (train, validation) in ROWS.items():
        splits = {"train": train, "validation": validation, "test": validation}
        options = {"words_per_document": WORDS[name], **splits}
        study["datasets"][name] |= {"source": "needle", "options": options}
    for entry in study["models"].values():
        entry |= {"initialisation": "random", "tokenizer": "any"}
    study["tokenizers"] = {"any": {"kind": "byte_level_bpe", "vocab_size": 50265}}
    for block in study["grid"]:
        del block["protocols"]  # generated, the default: no matter to stand-ins
    return {key: value for key, value in study.items() if key not in READ_LATER}


def usual_hours(cell: Cell, gpus: int) -> float:
    """Return the hours that a cell's training usually takes, by the module's formula."""
    return DATASET_H[cell.dataset] * cell.seq_len / 1024 * MODEL[cell.model] / gpus**0.9


def training_hours(cell: Cell, gpus: int, seed: int) -> float:
    """Return the hours that a cell's training takes this time."""
    return float(usual_hours(cell, gpus) * 2 ** random.Random(f"{seed} {cell.name}").uniform(-1, 1))


def write_summary(stages: Stages, folder: Path) -> None:
    """Write the usual times as an earlier run of the study would have measured them."""
    lines = ["cell,inference,train_runtime_s,inference_runtime_s"]
    for name, cell in stages.cells.items():
        seconds = usual_hours(cell, stages.gpus(name)) * 3600
        lines.append(f"{name},greedy,{seconds},{seconds * PREDICTING}")
    target = folder / stages.results / "summary.csv"
    target.parent.mkdir(parents=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def durations(stages: Stages, seconds: float, seed: int) -> dict[str, float]:
    """Return every job's seconds by the plan's keys (`seconds`: GPU-seconds / 8 of all)."""
    gpus = {name: stages.gpus(name) for name in stages.cells}
    hours = {n: training_hours(cell, gpus[n], seed) for n, cell in stages.cells.items()}
    gpu_hours = sum(each * gpus[name] for name, each in hours.items()) * (1 + PREDICTING)
    scale = seconds / (gpu_hours / GPUS)
    plan = {f"finetune {name}": each * scale for name, each in hours.items()}
    plan |= {f"predict {name}": each * scale * PREDICTING for name, each in hours.items()}
    plan |= {f"download_dataset {key}": ARRIVAL_S[name] for key, name in stages.datasets.items()}
    return plan


@dataclass(frozen=True)
class Job:
    """One job as the log has it, with times in seconds since the epoch."""

    rule: str
    cell: str
    begin: float
    end: float
    uuids: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Seconds from process start to end."""
        return self.end - self.begin


def jobs_of(lines: Iterable[Mapping[str, Any]]) -> list[Job]:
    """Return the jobs that ended, by time of their start."""
    fields = ("rule", "cell", "process_start", "time")
    ends = [line for line in lines if line["event"] == "end"]
    jobs = [Job(*(end[name] for name in fields), tuple(end["uuids"])) for end in ends]
    return sorted(jobs, key=lambda job: job.begin)


def overlaps(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Find GPUs that were leased to a job while another held them."""
    held: dict[str, str] = {}
    found = []
    for line in sorted(lines, key=lambda line: (line["time"], line["event"] == "start")):
        for uuid in line["uuids"]:
            if line["event"] == "end":
                held.pop(uuid, None)
            elif uuid in held:
                found.append(f"{uuid}: {held[uuid]} and {line['rule']} {line['cell']}")
            if line["event"] == "start":
                held[uuid] = f"{line['rule']} {line['cell']}"
    return found


class Run:
    """A finished run with its bounds and waits.

    Args:
        lines: the jobs' log.
        data: dataset key of each cell, as the log names it.
    """

    def __init__(self, lines: Sequence[Mapping[str, Any]], data: Mapping[str, str]) -> None:
        self.jobs = jobs_of(lines)
        self.leasing = [job for job in self.jobs if job.uuids]
        self.wide = [job for job in self.leasing if len(job.uuids) == GPUS]
        self.origin = min(job.begin for job in self.jobs)
        tokenizing = [job for job in self.jobs if job.rule == "tokenize_dataset"]
        tokens = {job.cell.split("/")[0]: job.end for job in tokenizing}
        self.data_ready = {cell: tokens[key] for cell, key in data.items()}
        self.trained = {job.cell: job.end for job in self.jobs if job.rule == "finetune"}

    def ready(self, job: Job) -> float:
        """Return when a job's inputs were there."""
        return self.data_ready[job.cell] if job.rule == "finetune" else self.trained[job.cell]

    @property
    def makespan(self) -> float:
        """Seconds from the first start of a job to the last end with a GPU."""
        return max(job.end for job in self.leasing) - self.origin

    @property
    def area(self) -> float:
        """GPU-seconds of all jobs."""
        return sum(len(job.uuids) * job.seconds for job in self.leasing)

    def bound(self) -> float:
        """Return the largest of `bounds`."""
        return max(self.bounds().values())

    def bounds(self) -> dict[str, float]:
        """Return the seconds that any schedule of these jobs takes at least."""
        first = min(self.data_ready.values()) - self.origin
        chains = dict.fromkeys(self.data_ready, 0.0)
        for job in self.leasing:
            chains[job.cell] += job.seconds
        narrow = chains.keys() - {job.cell for job in self.wide}
        alone = sum(job.seconds for job in self.wide)
        ends = [self.data_ready[cell] + seconds for cell, seconds in chains.items()]
        return {
            "gpu_seconds": first + self.area / GPUS,
            "alone_and_longest": first + alone + max(chains[cell] for cell in narrow),
            "chain": max(ends) - self.origin,
        }

    def waits(self) -> list[dict[str, Any]]:
        """Return each 8-GPU training's wait and the longest job meanwhile, longest wait first."""
        found = []
        for job in (job for job in self.wide if job.rule == "finetune"):
            start, end = self.ready(job), job.begin
            spans = [span for span in self._wide_spans() if span.cell != job.cell]
            wait = end - start - sum(_shared(span, start, end) for span in spans)
            others = [other for other in self.leasing if other is not job]
            beside = [other.seconds for other in others if _shared(other, start, end) > 0]
            longest = max(beside, default=0)
            found.append({"cell": job.cell, "wait_s": wait, "longest_beside_s": longest})
        return sorted(found, key=lambda wait: -wait["wait_s"])

    def _wide_spans(self) -> list[Job]:
        """Return the 8-GPU jobs, each until the next one's start if that was ready."""
        pairs = zip(self.wide, [*self.wide[1:], None], strict=True)
        return [replace(a, end=b.begin) if b and self.ready(b) <= a.end else a for a, b in pairs]

    def pauses(self) -> list[float]:
        """Return Snakemake's own seconds between an 8-GPU job and the next one that was ready."""
        pairs = itertools.pairwise(self.wide)
        return [b.begin - a.end for a, b in pairs if self.ready(b) <= a.end]

    def held_back(self) -> float:
        """Return the GPU-seconds that idled, beyond PAUSE_S, while a job was ready that fitted."""
        times = sorted({t for job in self.leasing for t in (self.ready(job), job.begin, job.end)})
        total = 0.0
        for begin, end in itertools.pairwise(times):
            busy = sum(len(job.uuids) for job in self.leasing if job.begin <= begin < job.end)
            waiting = [j for j in self.leasing if self.ready(j) <= begin and end <= j.begin]
            fits = any(len(job.uuids) <= GPUS - busy for job in waiting)
            total += (GPUS - busy) * (end - begin) if fits and end - begin > PAUSE_S else 0.0
        return total


def _shared(job: Job, start: float, end: float) -> float:
    """Return the seconds of a span in which a job ran."""
    return max(0.0, min(job.end, end) - max(job.begin, start))


def prediction_errors(stages: Stages, plan: Mapping[str, float]) -> dict[str, float]:
    """Return the range of trainings' predicted over planned seconds, whole and of 80 %.

    The common factor of all ratios (their geometric mean) is taken out.
    """
    model = runtimes(stages)
    predicted = {name: model.predict(name, "finetune").seconds for name in stages.cells}
    ratios = [math.log(seconds / plan[f"finetune {n}"]) for n, seconds in predicted.items()]
    centre = statistics.fmean(ratios)
    low, high = statistics.quantiles(ratios, n=10)[::8]
    spread = {"least": min(ratios), "tenth": low, "ninetieth": high, "most": max(ratios)}
    return {name: round(math.exp(value - centre), 2) for name, value in spread.items()}


def prepare(
    folder: Path, plan: Mapping[str, float], study: Mapping[str, Any], blind: bool
) -> dict[str, float]:
    """Make a project of the study and return the `prediction_errors` of its plan.

    Args:
        folder: where everything goes.
        plan: from `durations`.
        study: from `published_study`.
        blind: without the summary of an earlier run.
    """
    project = folder / "project"
    make_project(ROOT, project)
    text = yaml.safe_dump(dict(study))
    (project / "studies" / f"{STUDY}.yaml").write_text(text, encoding="utf-8")
    write_plan(folder / "plan.json", plan)
    stages = checked_stages(STUDY, study, {})
    if not blind:
        write_summary(stages, project)
    with contextlib.chdir(project):
        return prediction_errors(stages, plan)


def run(folder: Path, scheduler: str, study: Mapping[str, Any], options: Sequence[str]) -> Run:
    """Run a prepared project on stand-in GPUs.

    Args:
        folder: as `prepare` left it.
        scheduler: Snakemake's name for it.
        study: from `published_study`.
        options: more of Snakemake's command line.

    Raises:
        AssertionError: Snakemake failed, or two jobs held one GPU.
    """
    log = folder / "log.jsonl"
    stand_ins = {"STAND_IN_PLAN": str(folder / "plan.json"), "STAND_IN_LOG": str(log)}
    command = [sys.executable, "-m", "snakemake", "--cores", str(CORES), "--scheduler", scheduler]
    command += ["--resources", f"gpu={GPUS}", *options, "--config", f"study={STUDY}"]
    environ = {**os.environ, **environment(folder / "gpus", GPUS), **stand_ins}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=folder / "project", env=environ, text=True, **both)
    assert done.returncode == 0, done.stdout[-3000:]
    lines = read_log(log)
    assert not overlaps(lines), overlaps(lines)
    stages = checked_stages(STUDY, study, {})
    return Run(lines, {name: stages.inputs(name)["dataset"].split("/")[2] for name in stages.cells})


def report(done: Run, plan: Mapping[str, float]) -> dict[str, Any]:
    """Return a run's figures, with its 8-GPU trainings by length of their wait."""
    waits = done.waits()
    beyond = [job.seconds - plan[f"{job.rule} {job.cell}"] for job in done.leasing]
    longest = max(job.seconds for job in done.leasing)
    late = [wait for wait in waits if wait["wait_s"] > max(PAUSE_S, wait["longest_beside_s"])]
    return {
        "jobs_with_gpus": len(done.leasing),
        "makespan_s": round(done.makespan, 2),
        "lower_bound_s": round(done.bound(), 2),
        "bounds_s": {name: round(value, 2) for name, value in done.bounds().items()},
        "ratio": round(done.makespan / done.bound(), 4),
        "gpu_seconds_busy": round(done.area, 1),
        "gpu_seconds_held_back": round(done.held_back(), 1),
        "held_back_share": round(done.held_back() / (GPUS * done.makespan), 4),
        "longest_cell_s": round(longest, 2),
        "longest_wait_s": round(waits[0]["wait_s"], 2),
        "cells_that_waited_too_long": [wait["cell"] for wait in late],
        "waits": [
            {k: v if k == "cell" else round(v, 2) for k, v in wait.items()} for wait in waits
        ],
        "pause_between_jobs_s": round(statistics.median(done.pauses()), 3),
        "job_beyond_its_sleep_s": round(statistics.median(beyond), 3),
    }


def main() -> int:
    """Print one JSON object for each scheduler.

    Returns:
        1 if any packs worse than the target or lets a cell wait too long, else 0.
    """
    parser = command_line(__doc__)
    known, blind = "longwatt, greedy, ilp", "without the summary of an earlier run"
    parser.add_argument("--scheduler", nargs="+", default=["longwatt"], help=known)
    parser.add_argument("--seconds", type=float, default=300.0, help="all GPU-seconds / 8")
    parser.add_argument("--seed", type=int, default=0, help="of the durations' errors")
    parser.add_argument("--patience", type=int, help="--scheduler-longwatt-patience-s")
    parser.add_argument("--blind", action="store_true", help=blind)
    given = parser.parse_args()
    study = published_study()
    plan = durations(checked_stages(STUDY, study, {}), given.seconds, given.seed)
    patience = ["--scheduler-longwatt-patience-s", str(given.patience)]
    options = [] if given.patience is None else patience
    missed = 0
    for scheduler in given.scheduler:
        with tempfile.TemporaryDirectory() as name:
            errors = prepare(Path(name), plan, study, given.blind)
            done = run(Path(name), scheduler, study, options)
            facts = {**vars(given), "scheduler": scheduler, "predictions_over_durations": errors}
            found = report(done, plan)
            print(json.dumps({**facts, **found}, indent=1), flush=True)
            missed |= found["ratio"] > TARGET or bool(found["cells_that_waited_too_long"])
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
