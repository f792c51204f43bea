"""Measure the fast path of attention beside transformers' own, on a CPU or a GPU.

    python -m bench.attention [--device cpu|cuda] [--threads 1] [--shapes NAME ...] [--repeats N]
                              [--precisions fp32 bf16] [--published] [--json FILE]

For each shape both paths do the same work in turns, on one model with random weights and without
dropout: a training step, an encoder's evaluation, or greedy generation. It prints the median over
pairs of stock's time over the fast path's with its range, in wall and in CPU seconds. Beside it
stand the fast path's rate for the work that an exact pass needs, that rate's share of the best
square matrix product here, the memory that each path takes beyond model and gradients (measured in
a process of its own), and how far results differ.

`--seconds` above 0 (the default on a GPU) adds power: each path runs so long under longwatt's own
energy recorder, for joules and samples. A GPU's model FLOP utilisation is that of its rated speed.
What cannot be measured is NA. Run it where nothing else runs. `--list` names the shapes.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from bench import command_line
from bench.attention_cases import CASES, ENCODER, GENERATE, GPU, LED, TINY, AttentionCase
from bench.shape_rates import Meter, Shape
from longwatt.energy.__main__ import choose_gpus
from longwatt.gpus.listing import GpuError
from longwatt.jobs.torch_device import memory_status, synchronize

STOCK, FAST = "stock", "fast"
PATHS = (STOCK, FAST)
ROOM = "longwatt.models.attention"
SPECIAL = 5  # token ids below it are special ones
SQUARES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Dense floating-point operations per second, as vendors rate them, by how a device's name begins.
RATED: Mapping[str, Mapping[str, float]] = {
    "NVIDIA A100": {"fp32": 19.5e12, "bf16": 312e12},
    "NVIDIA H100 80GB HBM3": {"fp32": 67e12, "bf16": 989e12},
    "NVIDIA H200": {"fp32": 67e12, "bf16": 989e12},
}
Row = dict[str, Any]
Arm = Callable[[], Any]


class NotThere(RuntimeError):
    """A part of the fast path that this version of longwatt does not have."""


def _part(name: str) -> Any:
    try:
        return importlib.import_module(f"{ROOM}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{ROOM}.{name}":
            raise
        raise NotThere(f"longwatt here has no {error.name}") from error


def build(case: AttentionCase) -> Any:
    """Build a model of a case with weights of a trained model's size, so that attention varies."""
    torch.manual_seed(0)
    sides = {"layers": case.layers, "attention_heads": case.heads}
    sides["ffn_dim"] = case.inner * case.width
    sizes = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in sides.items()}
    known = {"vocab_size": case.vocabulary, "d_model": case.width, "dropout": 0.0, **sizes}
    ids = {"pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0, "decoder_start_token_id": 2}
    make = _led if case.family == LED else _bigbird
    model = make(case, {**known, **ids})
    model.generation_config = transformers.GenerationConfig(**ids)  # no more, as in a study
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    return model


def _led(case: AttentionCase, known: Mapping[str, Any]) -> Any:
    longest = -(-case.length // case.span) * case.span  # the library pads to whole windows
    config = transformers.LEDConfig(
        attention_window=case.span,
        max_encoder_position_embeddings=longest,
        max_decoder_position_embeddings=1024,
        **known,
    )
    return transformers.LEDForConditionalGeneration(config)


def _bigbird(case: AttentionCase, known: Mapping[str, Any]) -> Any:
    config = transformers.BigBirdPegasusConfig(
        block_size=case.span,
        num_random_blocks=case.random,
        max_position_embeddings=4096,
        **known,
    )
    return transformers.BigBirdPegasusForConditionalGeneration(config)


def batch_of(case: AttentionCase, device: torch.device) -> dict[str, Tensor]:
    """Draw a batch of full length, with its labels."""
    source = torch.Generator().manual_seed(0)
    words = partial(torch.randint, SPECIAL, case.vocabulary, generator=source)
    ids = words((case.batch, case.length))
    made = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if case.family == LED:
        made["global_attention_mask"] = torch.zeros_like(ids)
        made["global_attention_mask"][:, 0] = 1
    made["labels"] = words((case.batch, case.targets))
    return {name: value.to(device) for name, value in made.items()}


@dataclass(frozen=True)
class Work:
    """One case on one device, done by either path.

    Attributes:
        case: the shape.
        device: where.
        precision: fp32 or bf16, by mixed precision.
    """

    case: AttentionCase
    device: torch.device
    precision: str = "fp32"

    @cached_property
    def model(self) -> Any:
        """Return the model, which both paths share."""
        training = self.case.work not in (ENCODER, GENERATE)
        return build(self.case).to(self.device).train(training)

    @cached_property
    def batch(self) -> dict[str, Tensor]:
        """Return the batch."""
        return batch_of(self.case, self.device)

    @cached_property
    def path(self) -> Any:
        """Return the fast path of the model, attached to it.

        Raises:
            NotThere: this version has none, or it refuses this model.
        """
        path, encoder = _part("path"), _part(self.case.family)
        is_led = self.case.family == LED
        made = path.FastPath(self.model, encoder.encode, not is_led, is_led)
        reason = path.model_refusal(self.model) or made.refusal_on(self.device)
        if reason:
            raise NotThere(reason)
        made.attach()
        return made

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Return the batch without labels."""
        return {name: value for name, value in self.batch.items() if name != "labels"}

    def do(self, path: str) -> Any:
        """Do the work once by one path, and return its result."""
        dtype, mixed = DTYPES[self.precision], self.precision != "fp32"
        with torch.autocast(self.device.type, dtype, enabled=mixed):
            if self.case.work == GENERATE:
                return self._generate(path)
            if self.case.work == ENCODER:
                return self._encode(path)
            loss = self._loss(path)
        loss.backward()
        return loss.detach()

    def _loss(self, path: str) -> Tensor:
        self.model.zero_grad()
        if path == FAST:
            assert self.path is not None, "it attaches the path"
            loss: Tensor = self.model(**self.batch).loss
            return loss
        stock: Tensor = type(self.model).forward(self.model, **self.batch).loss
        return stock

    @torch.no_grad()
    def _encode(self, path: str) -> Tensor:
        if path == STOCK:
            states: Tensor = self.model.get_encoder()(**self.inputs).last_hidden_state
            return states.flatten(0, 1)
        packing = self.path.packing(self.inputs)
        packed: Tensor = self.path.encoded(self.inputs, packing).states
        return packed

    @torch.no_grad()
    def _generate(self, path: str) -> list[list[int]]:
        most = self.case.targets
        how = {"max_new_tokens": most, "min_new_tokens": most, "num_beams": 1}
        if path == FAST:
            tokens: list[list[int]] = _part("generation").generate(self.path, self.inputs, how)
            if tokens is None:
                raise NotThere("the fast path does not generate with these options")
            return tokens
        with self._stock_forward():
            output = self.model.generate(**self.inputs, **how, do_sample=False)
        return list(output[:, 1:].tolist())

    @contextlib.contextmanager
    def _stock_forward(self) -> Iterator[None]:
        """Let `generate` of the library call the model's own `forward`."""
        attached = self.model.__dict__.get("forward")
        self.model.forward = MethodType(type(self.model).forward, self.model)
        try:
            yield
        finally:
            del self.model.forward
            if attached is not None:
                self.model.forward = attached

    def differences(self) -> Row:
        """Compare the results of both paths: loss, states of the encoder, gradients or tokens."""
        found = {path: self._results(path) for path in (FAST, STOCK)}
        fast, stock = found[FAST], found[STOCK]
        if "tokens" in fast:
            return {"equal_tokens": fast["tokens"] == stock["tokens"]}
        return {f"{name}_difference": relative(fast[name], stock[name]) for name in fast}

    def _results(self, path: str) -> Row:
        result = self.do(path)
        if self.case.work == GENERATE:
            return {"tokens": result}
        if self.case.work == ENCODER:
            return {"output": [result]}
        named = self.model.named_parameters()
        grads = [part.grad.clone() for _, part in named if part.grad is not None]
        with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self._is_mixed):
            states = self._encode(path)
        return {"loss": [result], "output": [states], "gradient": grads}

    @property
    def _is_mixed(self) -> bool:
        return self.precision != "fp32"


def relative(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the length of the difference of tensors, over the length of the second."""
    pairs = [(one.double(), other.double()) for one, other in zip(found, wanted, strict=True)]
    apart = sum(float((one - other).square().sum()) for one, other in pairs)
    whole = sum(float(other.square().sum()) for _, other in pairs)
    return float((apart / whole) ** 0.5)


@dataclass
class Times:
    """Wall and CPU seconds of each path, pair by pair."""

    wall: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PATHS})
    cpu: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PATHS})

    def add(self, path: str, wall: float, cpu: float) -> None:
        """Keep the seconds of one turn."""
        self.wall[path].append(wall)
        self.cpu[path].append(cpu)


def in_turns(arms: Mapping[str, Arm], repeats: int, device: torch.device) -> Times:
    """Time both paths in turns, after one turn of each that does not count."""
    times = Times()
    for number in range(repeats + 1):
        # Each path is first in every other pair: what drifts hits both alike.
        for path in PATHS[:: 1 if number % 2 else -1]:
            synchronize(device)
            wall, cpu = time.perf_counter(), time.process_time()
            arms[path]()
            synchronize(device)
            if number:
                times.add(path, time.perf_counter() - wall, time.process_time() - cpu)
    return times


def pair_ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median, least and most of stock's seconds over the fast path's, by pairs."""
    pairs = zip(seconds[STOCK], seconds[FAST], strict=True)
    ratios = [stock / fast for stock, fast in pairs]
    return {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def best_square(device: torch.device, precision: str) -> float:
    """Measure the most operations per second of a square matrix product here."""
    rates = []
    for size in SQUARES[device.type]:
        one = torch.randn(size, size, device=device, dtype=DTYPES[precision])
        for _ in range(5):
            synchronize(device)
            start = time.perf_counter()
            one @ one
            synchronize(device)
            rates.append(2 * size**3 / (time.perf_counter() - start))
    return max(rates)


def rated_speed(name: str, precision: str) -> float | None:
    """Return the rated operations per second of a device, if they are known."""
    known = [speeds for start, speeds in RATED.items() if name.startswith(start)]
    return known[0].get(precision) if known else None


def peak_beyond(work: Work, path: str) -> int:
    """Return the bytes of memory that one turn takes beyond model, batch and gradients."""
    warm = Work(TINY["led_tiny" if work.case.family == LED else "bigbird_tiny"], work.device)
    warm.do(path)  # libraries take memory of their own when they are first used
    for part in work.model.parameters():
        part.grad = torch.empty_like(part).fill_(0)
    assert work.batch and (path == STOCK or work.path)
    gc.collect()
    before = _memory_begins(work.device)
    work.do(path)
    synchronize(work.device)
    if work.device.type == "cuda":
        return torch.cuda.max_memory_allocated(work.device) - before
    return memory_status()["VmHWM"] - before


def _memory_begins(device: torch.device) -> int:
    """Forget the peak of memory so far, and return what is taken now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return memory_status()["VmRSS"]


def peak_apart(name: str, path: str, precision: str, given: argparse.Namespace) -> float | None:
    """Measure the memory of one path in a process of its own, in MiB, or None if it ended badly."""
    command = [sys.executable, "-m", "bench.attention", "--memory", path, "--shapes", name]
    command += ["--device", given.device, "--threads", str(given.threads)]
    command += ["--precisions", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name}: memory of {path} is NA: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return int(done.stdout.split()[-1]) / 2**20


def energy(work: Work, seconds: float, gpu: str | None) -> Row:
    """Run each path under the energy recorder, for joules and samples per second."""
    found: Row = {}
    with tempfile.TemporaryDirectory() as folder:
        shape = Shape(
            work.case.family, {}, work.case.length, work.precision, work.case.targets,
            None, gpu, work.device.type,
        )  # fmt: skip
        with Meter(Path(folder) / "energy.jsonl", shape, idle_s=2.0, settle_s=1.5) as meter:
            for path in PATHS:
                samples = _window(work, path, seconds, meter)
                facts = meter.facts(path)
                found |= _per_sample(path, samples, facts, work)
    return found


def _window(work: Work, path: str, seconds: float, meter: Meter) -> int:
    work.do(path)
    meter.begin(path)
    start, samples = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work.do(path)
        synchronize(work.device)
        samples += work.case.batch
    meter.end()
    return samples


def _per_sample(path: str, samples: int, facts: Mapping[str, Any], work: Work) -> Row:
    """Return a path's columns of energy and speed. What no counter read is None."""
    joules, speed = facts["energy_j"], samples / facts["duration_s"]
    name = torch.cuda.get_device_name(work.device) if work.device.type == "cuda" else ""
    rated = rated_speed(name, work.precision)
    rate = work.case.flop / work.case.batch * speed
    return {
        f"{path}_joules_per_sample": None if joules is None else joules / samples,
        f"{path}_mean_power_w": facts["mean_power_w"],
        f"{path}_samples_per_second": speed,
        f"{path}_mfu": rate / rated if rated else None,
        "energy_source": facts["energy_source"],
    }


def measure(name: str, precision: str, given: argparse.Namespace, best: float) -> Row:
    """Measure one shape at one precision."""
    case = (CASES | TINY)[name]
    work = Work(case, torch.device(given.device), precision)
    row: Row = {"shape": name, "precision": precision, "work": case.work, "gflop": case.flop / 1e9}
    row |= work.differences()
    times = in_turns({path: partial(work.do, path) for path in PATHS}, given.repeats, work.device)
    for clock, seconds in (("wall", times.wall), ("cpu", times.cpu)):
        row |= {f"{clock}_{key}": value for key, value in pair_ratios(seconds).items()}
        row |= {f"{path}_{clock}_s": statistics.median(seconds[path]) for path in PATHS}
    for path in PATHS:
        row[f"{path}_gflop_per_s"] = case.flop / row[f"{path}_wall_s"] / 1e9
    row["roofline_share"] = row["fast_gflop_per_s"] * 1e9 / best
    if given.seconds:
        row |= energy(work, given.seconds, given.gpu)
    del work
    _empty_caches()
    for path in () if given.no_memory else PATHS:
        row[f"{path}_peak_mib"] = peak_apart(name, path, precision, given)
    return row


def _empty_caches() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure_all(names: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    """Measure all shapes. One that this version cannot do says why, and is left out."""
    device, rows, left_out = torch.device(given.device), [], {}
    best = {precision: best_square(device, precision) for precision in given.precisions}
    for name in names:
        for precision in given.precisions:
            try:
                rows.append(measure(name, precision, given, best[precision]))
            except NotThere as error:
                left_out[name] = str(error)
                continue
            print(describe(rows[-1]), file=sys.stderr, flush=True)
    facts = {"device": _device_name(device), "threads": torch.get_num_threads()}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    speeds = {f"best_square_gflop_per_s_{p}": rate / 1e9 for p, rate in best.items()}
    return {**facts, **versions, **speeds, "left_out": left_out, "rows": rows}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "NA")


def describe(row: Mapping[str, Any]) -> str:
    """Return one row as a line of a Markdown table."""
    ratios = (
        f"{row[f'{clock}_ratio']:.2f} ({row[f'{clock}_least']:.2f} to {row[f'{clock}_most']:.2f})"
        for clock in ("wall", "cpu")
    )
    seconds = " / ".join(f"{row[f'{path}_wall_s']:.4g}" for path in PATHS)
    rates = " / ".join(f"{row[f'{path}_gflop_per_s']:.1f}" for path in PATHS)
    peaks = " / ".join(_number(row.get(f"{path}_peak_mib"), ".0f") for path in PATHS)
    share = f"{row['roofline_share']:.2f}"
    cells = [row["shape"], row["precision"], *ratios, seconds, rates, share, peaks, _equal(row)]
    return "| " + " | ".join([*cells, *_energy_cells(row)]) + " |"


def _energy_cells(row: Mapping[str, Any]) -> list[str]:
    columns = ("joules_per_sample", "mean_power_w", "samples_per_second", "mfu")
    return [
        " / ".join(_number(row.get(f"{path}_{column}"), ".3g") for path in PATHS)
        for column in columns
    ]


def _number(value: float | None, form: str) -> str:
    return "NA" if value is None else format(value, form)


def _equal(row: Mapping[str, Any]) -> str:
    if "equal_tokens" in row:
        return "same tokens" if row["equal_tokens"] else "OTHER TOKENS"
    names = ("loss", "output", "gradient")
    found = ((name, row.get(f"{name}_difference")) for name in names)
    return ", ".join(f"{name} {value:.0e}" for name, value in found if value is not None)


HEAD = (
    "shape", "precision", "wall, stock / fast", "CPU, stock / fast", "seconds, both",
    "GFLOP/s, both", "of best matmul", "peak MiB, both", "difference", "J per sample", "W",
    "samples/s", "MFU",
)  # fmt: skip


def report(found: Mapping[str, Any]) -> str:
    """Return everything for a reader, as Markdown."""
    best = {key: value for key, value in found.items() if key.startswith("best_square")}
    speeds = ", ".join(f"{key.rsplit('_', 1)[1]} {value:.0f}" for key, value in best.items())
    lines = [
        f"{found['device']}, {found['threads']} threads, torch {found['torch']}, transformers "
        f"{found['transformers']}; best square product, GFLOP/s: {speeds}",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *map(describe, found["rows"]),
    ]
    lines += [f"left out: {name}: {why}" for name, why in found["left_out"].items()]
    return "\n".join(lines)


def chosen_shapes(given: argparse.Namespace) -> list[str]:
    """Return the shapes that are asked for, or all that suit the device."""
    if given.shapes:
        return list(given.shapes)
    large = given.published or given.device == "cuda"
    return [name for name, case in CASES.items() if large or case.where != GPU]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    names = sorted(CASES | TINY)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--shapes", nargs="+", choices=names, metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of each shape")
    both = "fp32, and on a GPU bf16 as well, if not given"
    parser.add_argument("--precisions", nargs="+", choices=sorted(DTYPES), help=both)
    parser.add_argument("--published", action="store_true", help="published shapes on a CPU too")
    window = "under the energy recorder, for each path; 10 on a GPU, 0 (none) on a CPU"
    parser.add_argument("--seconds", type=float, help=window)
    parser.add_argument("--no-memory", action="store_true", help="leave out memory")
    parser.add_argument("--json", type=Path, help="write everything there too")
    parser.add_argument("--list", action="store_true", help="print the names of the shapes")
    parser.add_argument("--memory", choices=PATHS, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    is_gpu = given.device == "cuda"
    if is_gpu and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; leave --device cuda out to measure the CPU")
    given.precisions = given.precisions or (["fp32", "bf16"] if is_gpu else ["fp32"])
    given.seconds = given.seconds if given.seconds is not None else 10.0 * is_gpu
    return given


def _gpu_to_meter(given: argparse.Namespace) -> str | None:
    """Return the UUID of the GPU at work, or None where it cannot be metered."""
    if given.device == "cpu":
        return None
    try:
        return next(iter(choose_gpus("visible")), None)
    except GpuError as error:
        print(f"power is not measured: {error}", file=sys.stderr)
        return None


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    given = arguments(words)
    if given.list:
        print(*CASES, sep="\n")
        return
    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    if given.memory:
        (name,), (precision,) = given.shapes, given.precisions
        work = Work((CASES | TINY)[name], torch.device(given.device), precision)
        print(peak_beyond(work, given.memory))
        return
    given.gpu = _gpu_to_meter(given)
    found = measure_all(chosen_shapes(given), given)
    print(report(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
