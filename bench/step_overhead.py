"""Measure what a training step takes beside forward pass, backward pass and optimiser.

    python -m bench.step_overhead [demo d256] [--steps 20] [--profile 40]

Trains the demo's LED (64 wide, 32 inputs of 256 tokens a step), or one that is 256 wide (four
layers on each side, a window of 256, 4 inputs of 2,048 tokens a step), with a cell's own trainer on
one thread. Times are the process's CPU time, since others may use the machine, and means over the
steps after a warm-up. `optimiser` includes dropping the gradients, `data` is the making of batches,
`norm` the gradients' norm and its clipping, `rest` all else of the Trainer and of longwatt: counts,
checks, callbacks. --profile lists so many functions by their own time as well (it takes time too).

Target: data, norm and rest are at most 5 % of a step in the demo, and 2 % at d256. The exit status
says whether it was met.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from bench import command_line
from longwatt.config.documents import merge
from longwatt.config.studies import read_study
from longwatt.datasets.records import download
from longwatt.jobs.work_folder import WorkFolder
from longwatt.jobs.worker import Spec
from longwatt.study.cells import Cell, expand
from longwatt.study.execution import deciding_settings, execution
from longwatt.study.settings import execution_settings, finetune_settings
from longwatt.tokens.tokenize import tokenize_dataset
from longwatt.tokens.tokenizers import make_tokenizer
from longwatt.training import finetune
from longwatt.training.ledger import Ledger
from longwatt.training.trainer import CellTrainer

ROOT = Path(__file__).parent.parent
WARM_UP_STEPS = 4
BESIDE = ("data", "norm", "rest")
MOST_PCT = {"demo": 5.0, "d256": 2.0}
WIDE = {
    "d_model": 256,
    **{f"{side}_layers": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 1024 for side in ("encoder", "decoder")},
    "attention_window": 256,
    "max_encoder_position_embeddings": 2048,
}
# What a case changes of the demo: documents' words, inputs, examples a step, the model.
CASES: dict[str, dict[str, Any]] = {
    "demo": {"words": 246, "seq_len": 256, "batch": 32, "config": {}},
    "d256": {"words": 2030, "seq_len": 2048, "batch": 4, "config": WIDE},
}


def study_of(case: str, steps: int) -> dict[str, Any]:
    """Read the demo as a case changes it, with enough steps."""
    said = CASES[case]
    train = said["batch"] * (steps + WARM_UP_STEPS + 2)
    options = {"words_per_document": said["words"], "train": train, "validation": 8, "test": 8}
    training = {"max_steps": steps + WARM_UP_STEPS + 1, "validation": {"every_steps": 9999}}
    changes = {
        "datasets": {"needle": {"options": options, "training": training}},
        "models": {"led_tiny": {"config": said["config"]}},
        "budgets": {"cpu": {"per_device_batch_size": said["batch"]}},
    }
    demo = read_study(ROOT / "studies/demo.yaml", ROOT / "workflow/schemas/study.schema.json")
    return dict(merge(demo, changes))


def cell_of(study: dict[str, Any]) -> Cell:
    """Return the cell of LED with needles at its longest input."""
    cells = expand(study).values()
    chosen = (cell for cell in cells if (cell.dataset, cell.model) == ("needle", "led_tiny"))
    return max(chosen, key=lambda cell: cell.seq_len)


def make_data(study: dict[str, Any], folder: Path) -> dict[str, str]:
    """Make a study's needles in a folder, and return the paths of a training's inputs."""
    records, bpe = folder / "records.jsonl", folder / "bpe"
    download(study["datasets"]["needle"], folder, {})
    make_tokenizer({"min_frequency": 2, **study["tokenizers"]["bpe"]}, records, bpe)
    tokenize_dataset(records, bpe, folder / "tokens", folder / "tokenized.json", {})
    names = {"tokens": "tokens", "tokenized": "tokenized.json", "dataset": "dataset.json"}
    names |= {"tokenizer": "bpe/tokenizer.json", "work": "work"}
    return {name: str(folder / file) for name, file in names.items()}


def trainer_of(case: str, steps: int, folder: Path) -> CellTrainer:
    """Return the trainer of a case's cell, as its job makes it."""
    study = study_of(case, steps)
    cell = cell_of(study)
    settings = {**finetune_settings(study, cell), "seq_len": CASES[case]["seq_len"]}
    carried = execution({**execution_settings(study, cell), **settings["training"]})
    settings["training"] = deciding_settings(settings["training"])
    paths = make_data(study, folder)
    spec = Spec(settings, paths, {}, {}, str(folder / "error.json"), None, carried)
    work = WorkFolder(folder / "work", {}, None)
    work.begin(execution=carried)
    return finetune._trainer(spec, work, Ledger(), None, attempt=1)


class Watch(TrainerCallback):  # type: ignore[misc]
    """CPU seconds by part of a step, from the warm-up's end to the last step but one."""

    def __init__(self, last: int, profile: cProfile.Profile | None) -> None:
        self.seconds: Counter[str] = Counter()
        self.last, self.profile = last, profile

    def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        """Begin to count, or end."""
        if state.global_step == WARM_UP_STEPS:
            self.seconds.clear()
            self.start = time.process_time()
            if self.profile:
                self.profile.enable()
        elif state.global_step == self.last:
            if self.profile:
                self.profile.disable()
            whole = time.process_time() - self.start
            self.seconds["rest"] = whole - sum(self.seconds.values())
            self.parts = dict(self.seconds)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time is a part's."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] += time.process_time() - start

        return call


def watch_parts(trainer: CellTrainer, watch: Watch) -> None:
    """Let a watch time the parts of a trainer's steps."""
    trainer.add_callback(watch)
    parts = (
        ("forward", trainer.family, "loss"),
        ("backward", trainer.accelerator, "backward"),
        ("data", trainer, "_next_batches"),
        ("norm", trainer, "_clip_grad_norm"),
        ("optimiser", trainer.create_optimizer(), "step"),
        ("optimiser", trainer.model, "zero_grad"),
    )
    for part, owner, name in parts:
        setattr(owner, name, watch.timed(part, getattr(owner, name)))


def measure(case: str, steps: int, profile: cProfile.Profile | None) -> dict[str, float]:
    """Return the CPU seconds of one step by its parts."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(case, steps, Path(folder))
        watch = Watch(WARM_UP_STEPS + steps, profile)
        watch_parts(trainer, watch)
        trainer.evaluate = lambda *args, **more: {}  # type: ignore[method-assign]
        trainer.train()
    return {part: seconds / steps for part, seconds in watch.parts.items()}


def main() -> int:
    """Print each case's step by its parts, in milliseconds and per cent."""
    parser = command_line(__doc__)
    parser.add_argument("cases", nargs="*", default=[], help=f"some of {', '.join(CASES)}")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--profile", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    missed = False
    for case in given.cases or CASES:
        profile = cProfile.Profile(time.process_time) if given.profile else None
        parts = measure(case, given.steps, profile)
        whole = sum(parts.values())
        said = (f"{part} {1000 * s:.2f} ms ({100 * s / whole:.2f} %)" for part, s in parts.items())
        beside = 100 * sum(parts.get(part, 0) for part in BESIDE) / whole
        print(f"{case}: {1000 * whole:.1f} ms a step: {', '.join(said)}; beside {beside:.2f} %")
        missed = missed or beside > MOST_PCT[case]
        if profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(given.profile)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
