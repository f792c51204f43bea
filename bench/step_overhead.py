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
import os
import pstats
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded

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


def study_of(case: str, steps: int, folder: Path) -> dict[str, Any]:
    """Read the demo as a case changes it, with so many steps."""
    said, demo = CASES[case], read_study(ROOT / "studies/demo.yaml", _schema())
    train = said["batch"] * (steps + WARM_UP_STEPS + 2)
    options = {"words_per_document": said["words"], "train": train, "validation": 8, "test": 8}
    steps_and_checks = {"max_steps": steps + WARM_UP_STEPS + 1, "validation": {"every_steps": 9999}}
    return dict(
        merge(
            demo,
            {
                "datasets": {"needle": {"options": options, "training": steps_and_checks}},
                "models": {"led_tiny": {"config": said["config"]}},
                "budgets": {"cpu": {"per_device_batch_size": said["batch"]}},
                "training": {"log_every_steps": 10},
            },
        )
    )


def _schema() -> Path:
    return ROOT / "workflow/schemas/study.schema.json"


def spec_of(study: dict[str, Any], cell: Cell, folder: Path) -> Spec:
    """Make a cell's data in a folder, and its training's specification."""
    records, bpe = folder / "records.jsonl", folder / "bpe"
    download(study["datasets"]["needle"], folder, {})
    make_tokenizer({"min_frequency": 2, **study["tokenizers"]["bpe"]}, records, bpe)
    tokenize_dataset(records, bpe, folder / "tokens", folder / "tokenized.json", {})
    settings = finetune_settings(study, cell)
    carried = {**execution_settings(study, cell), **settings["training"]}
    settings["training"] = deciding_settings(settings["training"])
    names = {"tokens": "tokens", "tokenized": "tokenized.json", "dataset": "dataset.json"}
    names |= {"tokenizer": "bpe/tokenizer.json", "work": "work"}
    paths = {name: str(folder / file) for name, file in names.items()}
    said = execution(carried)
    return Spec(settings, paths, {}, {}, str(folder / "error.json"), None, said)


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


def measure(case: str, steps: int, profile: cProfile.Profile | None) -> dict[str, float]:
    """Return the CPU seconds of one step by its parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = study_of(case, steps, folder)
        cells = expand(study).values()
        chosen = {"dataset": "needle", "model": "led_tiny", "seq_len": 256}
        cell = next(c for c in cells if all(getattr(c, k) == v for k, v in chosen.items()))
        spec = spec_of(study, cell, folder)
        spec = Spec(
            **{**vars(spec), "settings": {**spec.settings, "seq_len": CASES[case]["seq_len"]}}
        )
        work = WorkFolder(Path(spec.paths["work"]), {}, None)
        work.begin(execution=spec.execution)
        trainer = finetune._trainer(spec, work, Ledger(), None, 1)
        watch = Watch(WARM_UP_STEPS + steps, profile)
        trainer.add_callback(watch)
        trainer.family.loss = watch.timed("forward", trainer.family.loss)
        trainer.accelerator.backward = watch.timed("backward", trainer.accelerator.backward)
        trainer.get_batch_samples = watch.timed("data", trainer.get_batch_samples)
        trainer._clip_grad_norm = watch.timed("norm", trainer._clip_grad_norm)
        create = trainer.create_optimizer

        def created(*args: Any) -> Any:
            made = create(*args)
            made.step = watch.timed("optimiser", made.step)
            return made

        trainer.create_optimizer = created
        trainer.model.zero_grad = watch.timed("optimiser", trainer.model.zero_grad)
        trainer.evaluate = lambda *args, **more: {}
        trainer.train()
    return {part: seconds / steps for part, seconds in watch.parts.items()}


def main() -> int:
    """Print each case's step by its parts, in milliseconds and per cent."""
    parser = command_line(__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--profile", type=int, default=0)
    given = parser.parse_args()
    missed = False
    for case in given.cases:
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
