"""Measure one model at one length and precision on its device, for `bench.real_shapes`.

Training is the library's Trainer with longwatt's loss (forward, backward, gradients clipped to norm
1, fused AdamW); inference is longwatt's own `Predictor`, and making text of what it predicts.
Weights are random: no accuracy is claimed, and cost does not depend on them. Every input is padded
to the full length, and in training every target to its own, as in the published study.
"""

from __future__ import annotations

import gc
import itertools
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import Dataset
from transformers import PrinterCallback, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

import longwatt
from longwatt.energy.meters.nvml import GpuMeters
from longwatt.energy.recorder import Order
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.energy.sidecar import Sidecar
from longwatt.inference.predictor import Predictor
from longwatt.jobs import torch_device
from longwatt.jobs.environment import machine_facts
from longwatt.models import load_family
from longwatt.models.family import Batch, Example, Family
from longwatt.study.settings import GENERATION_DEFAULTS
from longwatt.training.probe_batch_size import HELD_BACK, STEPS, Try, largest, limit_gib

TRAIN = "train"
# Least training steps before any is counted: the first allocates the optimiser's state.
WARM_UP = 3
# Facts that a row takes from the energy log of its window.
ENERGY = (
    "duration_s", "energy_j", "energy_source", "mean_power_w", "idle_power_w", "crosscheck_pct",
    "flags", "mean_gpu_utilization_pct", "throttled_pct",
)  # fmt: skip
NEVER = 1_000_000  # steps: time ends a training, not their number


@dataclass(frozen=True)
class Shape:
    """A model to measure, at one length and precision on one device.

    Attributes:
        name: the model's id.
        model: its entry in the study: family and config.
        seq_len: tokens of every input.
        precision: fp32 or bf16.
        targets: tokens of every target and of every generated output.
        cap_gib: memory of the device that may be used; None for all.
        gpu: full UUID of the GPU; None for the CPU or where it cannot be metered.
        device: cuda or cpu.
    """

    name: str
    model: Mapping[str, Any]
    seq_len: int
    precision: str
    targets: int
    cap_gib: float | None
    gpu: str | None
    device: str

    @property
    def budget(self) -> dict[str, Any]:
        """The shape's device, as a study's budget would say it."""
        gpus = int(self.device == "cuda")
        budget = {"gpus": gpus, "processes": 1, "precision": self.precision}
        return {**budget, "memory_gib_per_gpu": self.cap_gib}


@dataclass(frozen=True)
class Effort:
    """Durations and batch sizes of a measurement.

    Attributes:
        seconds: of steady state at least, for each phase.
        warm_s: before that at least.
        most: the largest training batch worth a try.
        batch: the training batch; None for the largest that fits.
        inference_batch: examples per batch of inference.
    """

    seconds: float
    warm_s: float
    most: int
    batch: int | None
    inference_batch: int


class Meter:
    """The energy recorder beside this process, with its facts about windows.

    Args:
        log: the energy log; begun anew.
        shape: names the GPU; without one only time is metered.
        idle_s: recorded before the GPU is used at all.
        settle_s: recorded after a window, since a sensor that averages over a second lags by half
            a second.
    """

    def __init__(self, log: Path, shape: Shape, idle_s: float, settle_s: float) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        self.log, self.device, self.settle_s = log, torch.device(shape.device), settle_s
        facts = {"label": f"{shape.name} {shape.seq_len} {shape.precision}"}
        # The processors' own counter would not be the GPU's energy.
        gpus, rapl = [shape.gpu] if shape.gpu else [], not shape.budget["gpus"]
        self._sidecar = Sidecar(Order(str(log), gpus, facts=facts, rapl=rapl))
        self._sidecar.idle("idle_before", idle_s)
        self._sidecar.mark("prepare")

    def begin(self, name: str) -> None:
        """Begin a window with all earlier work done."""
        torch_device.synchronize(self.device)
        self._sidecar.mark(name)

    def end(self) -> None:
        """End the window with all of its work done."""
        torch_device.synchronize(self.device)
        self._sidecar.mark("prepare")

    def facts(self, name: str) -> dict[str, Any]:
        """Return the energy figures of a window that has ended."""
        time.sleep(self.settle_s if self._sidecar.metered else 0)
        phase: dict[str, Any] = summarize_log([self.log])["phases"][name]
        return phase

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: Any
    ) -> None:
        self._sidecar.close(0 if kind is None else 1)


class _Cycle(Dataset[Example]):
    """Examples over and over, for batches of any size."""

    def __init__(self, examples: Sequence[Example], count: int) -> None:
        self.examples, self.count = examples, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Example:
        return self.examples[position % len(self.examples)]


class _Trainer(Seq2SeqTrainer):  # type: ignore[misc]
    def __init__(self, family: Family, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.family = family
        self.model_accepts_loss_kwargs = False  # the loss is a mean, as in longwatt's training
        self.remove_callback(PrinterCallback)

    def compute_loss(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.family.loss(model, inputs)


class _Window(TrainerCallback):  # type: ignore[misc]
    """Begins the window once training is warm, and ends training after it."""

    def __init__(self, meter: Meter, effort: Effort) -> None:
        self.meter, self.effort = meter, effort
        self.first, self.steps = 0, 0
        self.since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seconds = time.perf_counter() - self.since
        if not self.first and state.global_step >= WARM_UP and seconds >= self.effort.warm_s:
            self.first = state.global_step
            self.meter.begin(TRAIN)
            self.since = time.perf_counter()
        elif self.first and seconds >= self.effort.seconds:
            self.meter.end()
            self.steps = state.global_step - self.first
            control.should_training_stop = True


class Rates:
    """Measurements of one shape, phase by phase.

    Args:
        shape: the model and its device.
        effort: durations and batch sizes.
        tokenizer: of the examples.
        examples: by split (train, validation), their inputs no longer than the shape's length.
        meter: the recorder at work.
    """

    def __init__(
        self,
        shape: Shape,
        effort: Effort,
        tokenizer: Any,
        examples: Mapping[str, Sequence[Example]],
        meter: Meter,
    ) -> None:
        self.shape, self.effort, self.meter = shape, effort, meter
        self.tokenizer, self.examples = tokenizer, examples
        self.device = torch.device(shape.device)
        gc.freeze()  # collections then look at what the phases leave, not at all that is loaded

    def row(self, phase: str) -> dict[str, Any]:
        """Measure a phase, or return a row of source NA where memory runs out."""
        try:
            return self._train() if phase == TRAIN else self._infer(phase)
        except Exception as error:
            if not torch_device.out_of_memory(error):
                raise
            said = (str(error) or type(error).__name__).splitlines()[0]
        return {"source": "NA", "note": f"out of memory: {said}"}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Facts about the shape on this device that hold for every phase."""
        family, model = self._build("meta")  # takes no memory
        config = model.config.to_dict()
        notes = [*family.notes(config, self.shape.seq_len)]
        if self.shape.gpu and self.device.type == "cpu":
            notes.append("a rehearsal on the CPU: the power is that of a GPU which did nothing")
        return {
            "parameters_m": sum(p.numel() for p in model.parameters()) / 1e6,
            "attention": family.regime(config, self.shape.seq_len),
            "initialisation": "random",
            **hardware(self.shape),
            "note": "; ".join(notes) or None,
        }

    def _train(self) -> dict[str, Any]:
        tries = [] if self.effort.batch else self._largest()
        fits = [t.batch_size for t in tries if t.fits]
        if tries and not fits:
            return {"source": "NA", "note": f"not one example fits: {tries[0].said}"}
        batch = self.effort.batch or max(fits)
        self._begin(self.shape.cap_gib)
        window = _Window(self.meter, self.effort)
        self._steps(batch, NEVER, [window])
        bounded = "memory" if not all(t.fits for t in tries) else "the search"
        found = {"largest_batch_size": batch, "batch_bounded_by": bounded} if tries else {}
        return {**self._measured(TRAIN, batch, batch * window.steps), **found}

    def _largest(self) -> list[Try]:
        """Try batch sizes under the cap, less the part that longwatt's own probe holds back."""
        limit = limit_gib(self.shape.budget) * (1 - HELD_BACK)
        return largest(lambda size: self._attempt(size, limit), self.effort.most)

    def _attempt(self, size: int, limit: float) -> Try:
        """Try one size in this process: a GPU builds a model in a second."""
        start, said = time.perf_counter(), None
        self._begin(limit if self.shape.cap_gib else None)
        try:
            self._steps(size, STEPS, [])
        except Exception as error:
            if not torch_device.out_of_memory(error):
                raise
            said = (str(error) or type(error).__name__).splitlines()[0]
        peak = None if said else torch_device.peak_limited_gib(self.device)
        return Try(size, said is None, peak, time.perf_counter() - start, limit, said)

    def _steps(self, batch: int, steps: int, callbacks: list[TrainerCallback]) -> None:
        """Train a new model."""
        family, model = self._build()
        lengths = (self.shape.seq_len, self.shape.targets)
        with tempfile.TemporaryDirectory() as folder:
            _Trainer(
                family,
                model=model,
                args=self._arguments(folder, batch, steps),
                train_dataset=_Cycle(self.examples["train"], batch * min(steps, 1000)),
                data_collator=lambda chosen: family.collate(chosen, *lengths),
                callbacks=callbacks,
            ).train()
        torch_device.synchronize(self.device)

    def _arguments(self, folder: str, batch: int, steps: int) -> Seq2SeqTrainingArguments:
        return Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=steps,
            learning_rate=2e-5,
            bf16=self.shape.precision == "bf16",
            use_cpu=self.device.type == "cpu",
            average_tokens_across_devices=False,
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )

    def _infer(self, protocol: str) -> dict[str, Any]:
        self._begin(self.shape.cap_gib)
        batches = self._batches(protocol)
        _run(batches, self.effort.warm_s)
        self.meter.begin(protocol)
        samples = _run(batches, self.effort.seconds)
        self.meter.end()
        return self._measured(protocol, self.effort.inference_batch, samples)

    def _batches(self, protocol: str) -> Iterator[int]:
        """Predict batch after batch and yield the number of examples of each."""
        family, model = self._build()
        targets = self.shape.targets
        # Random weights seldom end by themselves: every output has the same length, on purpose.
        generation = {**GENERATION_DEFAULTS, "max_new_tokens": targets, "min_new_tokens": targets}
        predictor = Predictor(
            family,
            model.eval(),
            self.tokenizer,
            how={"protocol": protocol, "generation": generation},
            precision=self.shape.precision,
            pad_to=self.shape.seq_len,
        )
        examples: Any = self.examples["validation"]
        places = itertools.cycle(range(len(examples)))
        while True:
            group = list(itertools.islice(places, self.effort.inference_batch))
            yield from (len(result.ids) for result in predictor.predict(examples, [group]))

    def _build(self, device: str | None = None) -> tuple[Family, Any]:
        """Build a model with random weights on its device, where a GPU draws them fastest."""
        torch.manual_seed(0)
        family = load_family(self.shape.model["family"])
        lengths = (self.shape.seq_len, self.shape.targets)
        with torch.device(device or self.device):
            return family, family.build(self.shape.model, self.tokenizer, None, *lengths)

    def _begin(self, cap_gib: float | None) -> None:
        """Begin with empty caches and counts, held to a cap."""
        torch_device.prepare({**self.shape.budget, "memory_gib_per_gpu": cap_gib})
        gc.collect()  # a Trainer is full of cycles, and keeps its memory when it runs out of it
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def _measured(self, phase: str, batch: int, samples: int) -> dict[str, Any]:
        """Return speed, power and memory of the window that has just ended."""
        peaks = self._peaks()
        energy = self.meter.facts(phase)
        speed, power = samples / energy["duration_s"], energy["mean_power_w"]
        return {
            "source": "measured",
            "batch_size": batch,
            "samples": samples,
            "samples_per_second": speed,
            "samples_per_second_per_w": speed / power if power else None,
            **peaks,
            **{name: energy[name] for name in ENERGY},
        }

    def _peaks(self) -> dict[str, float | None]:
        if self.device.type == "cpu":
            return {}
        return {
            "peak_memory_allocated_gib": torch.cuda.max_memory_allocated() / torch_device.GIB,
            "peak_memory_reserved_gib": torch.cuda.max_memory_reserved() / torch_device.GIB,
        }


def _run(batches: Iterator[int], seconds: float) -> int:
    """Take batches for a time, at least one, and return the number of examples."""
    start = time.perf_counter()
    samples = next(batches)
    while time.perf_counter() - start < seconds:
        samples += next(batches)
    return samples


def has_device(device: str) -> bool:
    """Return whether this torch can use a device."""
    return device == "cpu" or torch.cuda.is_available()


def hardware(shape: Shape) -> dict[str, Any]:
    """Return device, driver and the software around them."""
    found = GpuMeters([shape.gpu]).describe()[0] if shape.gpu else {}
    return {
        "hardware": machine_facts({"gpus": 0 if shape.device == "cpu" else 1})["device"],
        "driver": found.get("driver"),
        "power_limit_w": found.get("power_limit_w"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "longwatt": longwatt.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def measure(
    rates: Rates,
    phases: Sequence[str],
    may_begin: Callable[[str], bool],
    keep: Callable[[str, dict[str, Any]], None],
) -> None:
    """Measure phases one after another, and keep each as soon as it is known.

    Args:
        rates: measurements of a shape.
        phases: names of the phases.
        may_begin: tells whether there is time for a phase.
        keep: takes a phase and its row.
    """
    for phase in phases:
        if may_begin(phase):
            row = rates.row(phase)
            notes = "; ".join(filter(None, (rates.facts["note"], row.pop("note", None))))
            keep(phase, {**rates.facts, **row, "note": notes or None})
