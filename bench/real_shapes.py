"""Measure speed, power and memory of the published models at their real shapes.

    .venv/bin/python -m bench.real_shapes --zip qmsum.zip --out real_shapes.csv [--seconds 30]
                                          [--deadline 540]

Every model of studies/paper.yaml is measured with random weights, at every length, in fp32 and
bf16: training with the largest batch under a 48 GiB cap, and inference with batches of 16, both
generated and teacher-forced. Texts are QMSum documents (`--zip`, or the folder
LONGWATT_SCROLLS_MIRROR) or else generated ones, and the table says which.

A row per model, length, precision and phase is written as soon as it is measured, and a row that is
there is not measured again: where time is short, run it again and again with `--deadline`. On a
node that others use, put `python -m longwatt.gpus lease --count 1 --` before it. Then the cost axes
of the paper's figures 1, 3 and 4 are drawn beside the table; `--draw` only draws. `--tiny`
rehearses everything at a tiny shape on a CPU in seconds.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench import command_line
from longwatt.config.documents import merge
from longwatt.datasets import needle, scrolls
from longwatt.datasets.records import Record
from longwatt.energy.__main__ import choose_gpus
from longwatt.files import read_object, whole_file
from longwatt.gpus.listing import VISIBLE_VARIABLE, GpuError
from longwatt.jobs.worker import die_with_parent
from longwatt.provenance.stamps import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from longwatt.models.family import Example

ROOT = Path(__file__).parent.parent
MIRROR = "LONGWATT_SCROLLS_MIRROR"
WORK = ROOT / "results/real_shapes"
LENGTHS, PRECISIONS = (1024, 2048, 3072, 4096), ("fp32", "bf16")
PHASES = ("train", "teacher_forced", "generated")
TARGETS = 128  # tokens, to which the published study cut its targets
CAP_GIB = 48.0  # of the published study's cards
DOCUMENTS = 64  # of each split
VOCABULARY = 50265  # of LED's own tokenizer, the smaller one
COLUMNS = (
    "model", "seq_len", "precision", "phase", "source", "batch_size", "largest_batch_size",
    "batch_bounded_by", "memory_cap_gib", "target_tokens", "samples", "duration_s",
    "samples_per_second", "mean_power_w", "samples_per_second_per_w", "energy_j", "energy_source",
    "crosscheck_pct", "flags", "idle_power_w", "mean_gpu_utilization_pct", "throttled_pct",
    "peak_memory_allocated_gib", "peak_memory_reserved_gib", "parameters_m", "initialisation",
    "attention", "documents", "full_inputs_pct", "hardware", "driver", "power_limit_w", "torch",
    "transformers", "python", "longwatt", "date", "note",
)  # fmt: skip
KEY = COLUMNS[:4]
HOPELESS = 2  # exit status: no other cell could be measured either
# Least seconds that a phase needs beside its window: building, warming up; and for training the
# search for its batch.
BESIDE_S, SEARCH_S = 20.0, 60.0
TINY_LENGTHS = (32, 64)
SIDE = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
TINY = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in SIDE.items()}
TINY |= {"vocab_size": 1000, "d_model": 16}
BLOCKS = {"block_size": 4, "num_random_blocks": 1}
TINY_OF = {"led": {"attention_window": 16}, "bigbird_pegasus": BLOCKS}
MARKERS, COLOURS = ("o", "s", "^"), ("#440154", "#277f8e", "#a0da39")  # viridis, from dark to light
Cell = tuple[str, int, str]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class CostAxis:
    """The cost axis of a published figure.

    Attributes:
        figure: its number.
        label: with the unit.
        column: of the table.
        lines: the phases that are shown, with their lines' styles.
    """

    figure: int
    label: str
    column: str
    lines: Mapping[str, str]


TRAIN, BOTH = {"train": "-"}, {"teacher_forced": "--", "generated": "-"}
SPEED = "samples_per_second"
COST_AXES = (
    CostAxis(1, "Training power efficiency (samples/s/W)", f"{SPEED}_per_w", TRAIN),
    CostAxis(3, "Training speed (samples/s)", SPEED, TRAIN),
    CostAxis(4, "Inference speed (samples/s)", SPEED, BOTH),
)


def read_models(tiny: bool) -> dict[str, dict[str, Any]]:
    """Read title, family, attention and config of the published models, or of tiny ones."""
    with (ROOT / "studies/paper.yaml").open(encoding="utf-8") as stream:
        entries = yaml.safe_load(stream)["models"]
    keys = ("title", "family", "attention", "config")
    models = {name: {key: entry[key] for key in keys} for name, entry in entries.items()}
    if not tiny:
        return models
    small = {family: {"config": {**TINY, **config}} for family, config in TINY_OF.items()}
    return {name: merge(model, small[model["family"]]) for name, model in models.items()}


def cells(models: Iterable[str], lengths: Iterable[int], only: Sequence[str]) -> list[Cell]:
    """List all cells of model, length and precision, or those that one of `only` names.

    Args:
        models: their ids.
        lengths: tokens of an input.
        only: model,length,precision; a part that is empty or left out stands for all.
    """
    parts = itertools.product(PRECISIONS, lengths, models)
    every = [(model, length, precision) for precision, length, model in parts]
    wanted = [[part.strip() for part in pattern.split(",")] for pattern in only]
    return [cell for cell in every if not wanted or any(_matches(cell, w) for w in wanted)]


def _matches(cell: Cell, pattern: Sequence[str]) -> bool:
    pairs = itertools.zip_longest(pattern, cell, fillvalue="")
    return all(not part or part == str(value) for part, value in pairs)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table, none if there is no table."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def keep_row(path: Path, row: Row) -> None:
    """Add a row (unknown is NA) to the table, which is whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [*read_rows(path), {name: _cell(row.get(name)) for name in COLUMNS}]
    with whole_file(path, newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value) or "none"
    if value in (None, ""):
        return "NA"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def missing(path: Path, cell: Cell) -> list[str]:
    """List the phases of a cell that have no row yet."""
    there = {tuple(row[name] for name in KEY) for row in read_rows(path)}
    return [phase for phase in PHASES if (*map(str, cell), phase) not in there]


def prepare(work: Path, given: argparse.Namespace) -> None:
    """Make documents.json (token ids) and tokenizer/ for all cells unless they are there.

    The tokenizer is a byte-level BPE of at most as many tokens as LED's own, trained on the
    documents. Cost depends on lengths, not on ids.
    """
    from longwatt.tokens.special_tokens import evenly_spread, load_tokenizer
    from longwatt.tokens.tokenizers import make_tokenizer

    source = given.zip and given.zip.name
    made_from = [source, given.documents, given.vocabulary, max(given.lengths)]
    if read_object(work / "documents.json").get("made_from") == made_from:
        return
    splits, said = _documents(given)
    count = min(given.documents, *map(len, splits.values()))
    spread = {split: evenly_spread(len(found), count) for split, found in splits.items()}
    chosen = {split: [splits[split][i] for i in places] for split, places in spread.items()}
    with whole_file(work / "records.jsonl") as stream:
        for split, records in chosen.items():
            for record in records:
                stream.write(json.dumps({"split": split, **asdict(record)}) + "\n")
    settings = {"kind": "byte_level_bpe", "vocab_size": given.vocabulary, "min_frequency": 2}
    make_tokenizer(settings, work / "records.jsonl", work / "tokenizer")
    tokenizer = load_tokenizer(work / "tokenizer")

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    rows = {
        split: [[encode(record.input), encode(record.references[0])] for record in records]
        for split, records in chosen.items()
    }
    said = f"{said}, tokens by a byte-level BPE of {len(tokenizer)} trained on them"
    write_json(work / "documents.json", {"made_from": made_from, "said": said, "rows": rows})


def _documents(given: argparse.Namespace) -> tuple[dict[str, list[Record]], str]:
    """Return records of train and validation, and a phrase that names their source."""
    if given.zip is None:
        words = max(given.lengths)  # a word is a token at least
        splits = {"train": given.documents, "validation": given.documents, "test": 1}
        options = {"words_per_document": words, **splits}
        return _two(needle.read(options).splits), f"generated, {words} words each"
    os.environ[scrolls.MIRROR] = str(given.zip.parent)
    task = given.zip.stem
    return _two(scrolls.read({"task": task}).splits), f"SCROLLS {task}"


def _two(splits: Mapping[str, list[Record]]) -> dict[str, list[Record]]:
    return {split: splits[split] for split in ("train", "validation")}


def _examples(
    work: Path, tokenizer: Any, length: int, targets: int
) -> tuple[dict[str, list[Example]], dict[str, Any]]:
    """Return the documents cut to a length, and the table's facts about them."""
    from longwatt.models.family import Example
    from longwatt.tokens.special_tokens import SpecialTokens

    special = SpecialTokens.of(tokenizer)
    documents = json.loads((work / "documents.json").read_text(encoding="utf-8"))
    examples = {
        split: [
            Example(f"{split}-{n}", special.cut(ids, length), special.cut(labels, targets), ("",))
            for n, (ids, labels) in enumerate(rows)
        ]
        for split, rows in documents["rows"].items()
    }
    full = [len(example.input_ids) == length for chosen in examples.values() for example in chosen]
    share = 100 * sum(full) / len(full)
    return examples, {"documents": documents["said"], "full_inputs_pct": share}


def measure_cell(cell: Cell, given: argparse.Namespace) -> int:
    """Measure a cell's missing phases in this process and return an exit status."""
    # Only here: the process that hands out the cells leaves the GPU alone.
    from bench.shape_rates import Effort, Meter, Rates, Shape, has_device, measure
    from longwatt.tokens.special_tokens import load_tokenizer

    if not has_device(given.device):
        print("this torch sees no GPU; --device cpu --batch N measures a CPU", file=sys.stderr)
        return HOPELESS
    model, length, precision = cell
    prepare(given.work, given)
    tokenizer = load_tokenizer(given.work / "tokenizer")
    examples, said = _examples(given.work, tokenizer, length, given.targets)
    cap = CAP_GIB if given.device == "cuda" else None
    entry = read_models(given.tiny)[model]
    shape = Shape(model, entry, length, precision, given.targets, cap, given.gpu, given.device)
    effort = Effort(given.seconds, given.warm, given.most, given.batch, given.inference_batch)
    same = {"memory_cap_gib": cap, "target_tokens": given.targets, **said}
    same |= {"model": model, "seq_len": length, "precision": precision}
    log = given.work / f"{model}-{length}-{precision}.jsonl"
    with Meter(log, shape, given.idle, given.settle) as meter:
        measure(
            Rates(shape, effort, tokenizer, examples, meter),
            missing(given.out, cell),
            lambda phase: _in_time(given, phase),
            lambda phase, row: _kept(given.out, {**same, "phase": phase, **row}),
        )
    return 0


def _in_time(given: argparse.Namespace, phase: str = PHASES[0]) -> bool:
    """Return whether a phase would end before time is up."""
    search = SEARCH_S if phase == PHASES[0] and not given.batch else 0.0
    needs = 0.0 if given.tiny else 1.2 * given.seconds + given.warm + BESIDE_S + search
    return given.until is None or time.time() + needs < given.until


def _kept(path: Path, row: Row) -> None:
    keep_row(path, row)
    said = " ".join(_cell(row.get(name)) for name in (*KEY, "batch_size"))
    speed, power = _cell(row.get("samples_per_second")), _cell(row.get("mean_power_w"))
    print(f"{said}: {speed} samples/s, {power} W {row['note'] or ''}", flush=True)


def measure_all(chosen: Sequence[Cell], given: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measure cells, each in its own process, until all are done or time is up.

    Returns:
        An exit status.
    """
    failed = 0
    for cell in chosen:
        if not missing(given.out, cell):
            continue
        if not _in_time(given, missing(given.out, cell)[0]):
            break
        status = _measure_apart(cell, given, arguments)
        if status == HOPELESS:
            return status
        failed += status != 0
    left = sum(len(missing(given.out, cell)) for cell in chosen)
    advice = ": run it again" if left else ""
    print(f"{len(read_rows(given.out))} rows in {given.out}, {left} to measure{advice}")
    return int(failed > 0)


def _measure_apart(cell: Cell, given: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measure a cell in its own process, where memory and idle watts begin anew."""
    name = ",".join(map(str, cell))
    command = [sys.executable, "-m", "bench.real_shapes", *arguments, f"--cell={name}"]
    if given.until is not None:
        command.append(f"--until={given.until}")
    environ = {**os.environ, **_visible(given)}
    # A process left alone would keep the GPU busy.
    status = subprocess.run(command, env=environ, preexec_fn=die_with_parent).returncode
    if status:
        print(f"{name}: ended with status {status}", file=sys.stderr)
    return status


def _visible(given: argparse.Namespace) -> dict[str, str]:
    """Show each process one GPU: with more, the Trainer would use them all."""
    if given.device == "cpu":
        return {}
    return {VISIBLE_VARIABLE: given.gpu or os.environ.get(VISIBLE_VARIABLE, "0").split(",")[0]}


def draw(path: Path, models: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """Draw the cost axes of figures 1, 3 and 4 beside a table (SVG, PNG)."""
    from longwatt.layout.drawing import panels, save

    rows = [row for row in read_rows(path) if row["source"] == "measured"]
    known = {row["precision"] for row in rows}
    precisions = [p for p in PRECISIONS if p in known] or PRECISIONS[:1]
    figure, axes = panels(len(COST_AXES) * len(precisions), 3.6)
    for axis, (precision, cost) in zip(axes, itertools.product(precisions, COST_AXES), strict=True):
        _panel(axis, [row for row in rows if row["precision"] == precision], cost, models)
        axis.set_title(f"{precision}: cost axis of figure {cost.figure}")
    named: dict[str, Any] = {}
    for axis in axes:
        lines, names = axis.get_legend_handles_labels()
        named |= zip(names, lines, strict=True)
    if named:
        figure.legend(named.values(), named, loc="outside lower center", ncols=3)
        figure.suptitle(_caption(rows), fontsize="small")
    return save(figure, path.with_suffix(""))


def _panel(axis: Axes, rows: Sequence[Row], cost: CostAxis, models: Mapping[str, Any]) -> None:
    from longwatt.layout.drawing import leave_empty

    measured = [row for row in rows if row["phase"] in cost.lines]
    known = [row for row in measured if row[cost.column] != "NA"]
    if not known:
        leave_empty(axis, "power was not measured" if measured else "not measured yet")
        return
    styles = zip(models.items(), MARKERS, COLOURS, strict=True)
    curves = itertools.product(styles, cost.lines.items())
    for ((name, model), marker, colour), (phase, line) in curves:
        mine = [row for row in known if (row["model"], row["phase"]) == (name, phase)]
        points = sorted((int(row["seq_len"]), float(row[cost.column])) for row in mine)
        label = model["title"] + (", teacher-forced" if phase == "teacher_forced" else "")
        if points:
            axis.plot(*zip(*points, strict=True), line, marker=marker, color=colour, label=label)
    axis.set(xlabel="Input length (tokens)", ylabel=cost.label, yscale="log")
    axis.set_xticks(sorted({int(row["seq_len"]) for row in known}))


def _caption(rows: Sequence[Mapping[str, str]]) -> str:
    def of(column: str) -> str:
        return ", ".join(sorted({row[column] for row in rows}))

    where = f"{of('documents')}; {of('hardware')}"
    return f"Random weights; {where}; {of('target_tokens')} target tokens"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line(__doc__)
    mirror = os.environ.get(MIRROR)
    parser.add_argument("--zip", type=Path, default=Path(mirror) / "qmsum.zip" if mirror else None)
    table, work = "the table; figures go beside it", "where token ids, tokenizer, energy logs go"
    parser.add_argument("--out", type=Path, default=WORK.with_suffix(".csv"), help=table)
    parser.add_argument("--work", type=Path, default=WORK, help=work)
    parser.add_argument("--seconds", type=float, default=30.0, help="of steady state, for each row")
    parser.add_argument("--only", action="append", default=[], metavar="MODEL,LENGTH,PRECISION")
    until = "seconds from now; a phase that would not end by then is not begun"
    parser.add_argument("--deadline", type=float, help=until)
    batch = "the training batch, instead of the largest that fits"
    parser.add_argument("--batch", type=int, help=batch)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--draw", action="store_true", help="only draw what the table has")
    parser.add_argument("--tiny", action="store_true", help="rehearse at a tiny shape on a CPU")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    parser.set_defaults(warm=5.0, idle=3.0, settle=1.5, most=256, inference_batch=16)
    parser.set_defaults(targets=TARGETS, documents=DOCUMENTS, vocabulary=VOCABULARY)
    parser.set_defaults(lengths=LENGTHS)
    given = parser.parse_args(arguments)
    if given.tiny:
        short = {"seconds": 0.2, "warm": 0.0, "idle": 0.0, "settle": 0.2, "lengths": TINY_LENGTHS}
        small = {"most": 3, "inference_batch": 2, "targets": 8, "documents": 6, "vocabulary": 400}
        vars(given).update({**short, **small, "device": "cpu", "zip": None})
    elif given.device == "cpu" and not given.batch:
        parser.error("on a CPU nothing caps the memory of a process in its middle: give --batch")
    if given.zip is not None and not given.zip.is_file():
        parser.error(f"{given.zip} is not there; give another --zip, or none to generate documents")
    if given.deadline is not None and given.until is None:
        given.until = time.time() + given.deadline
    return given


def _gpu(given: argparse.Namespace) -> str | None:
    """Return the UUID of the GPU to meter, or None if none can be metered.

    A rehearsal meters one that it does not use, so that this is rehearsed too.
    """
    if given.device == "cpu" and not given.tiny:
        return None
    try:
        gpus = choose_gpus("visible")
    except GpuError as error:
        print(f"power is not measured: {error}", file=sys.stderr)
        return None
    return gpus[0] if gpus else None


def main(arguments: Sequence[str]) -> int:
    """Measure the missing rows, draw, and return an exit status."""
    given = _parse(arguments)
    given.gpu = _gpu(given)
    models = read_models(given.tiny)
    if given.cell:
        model, length, precision = given.cell.split(",")
        return measure_cell((model, int(length), precision), given)
    chosen = [] if given.draw else cells(models, given.lengths, given.only)
    status = 0 if given.draw else measure_all(chosen, given, arguments)
    try:
        print(*draw(given.out, models) if read_rows(given.out) else (), sep="\n")
    except ModuleNotFoundError as error:
        print(f"not drawn here ({error}); draw elsewhere with --draw", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
