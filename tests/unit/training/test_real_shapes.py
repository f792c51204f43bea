"""The published study's models at their real shapes, and the benchmark that measures them."""

import csv
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from bench import real_shapes, shape_rates

from longwatt.inference.predictor import Predictor
from longwatt.models import load_family
from longwatt.models.family import Example
from longwatt.study.settings import GENERATION_DEFAULTS
from longwatt.tokens.special_tokens import SpecialTokens, load_tokenizer
from tests.conftest import ROOT
from tests.needle_data import make_needle_data
from tests.nvml import FakeGpu

PARAMETERS_M = {"led_base": 161.8, "led_large": 459.8, "bigbird_large": 576.9}
MODELS = real_shapes.read_models(tiny=False)
# A device that has torch, transformers and accelerate is enough to measure on.
ABSENT = ("snakemake", "datasets", "rouge_score", "aclsum")
HIDE = f"""
import importlib.machinery
found = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *more: None if name.split(".")[0] in {ABSENT!r} else found(name, *more)
)
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    options = {"words_per_document": 1100, "train": 4, "validation": 1, "test": 1}
    data = make_needle_data(
        tmp_path_factory.mktemp("data"), options, {"vocab_size": 600, "min_frequency": 2}
    )
    return load_tokenizer(data / "bpe")


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> str:
    """A search path on which some packages are not there."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join([str(folder), str(ROOT / "workflow/lib")])
    names = (*ABSENT, "torch")
    look = (
        "from importlib.util import find_spec; "
        f"print([name for name in {names!r} if find_spec(name)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert done.stdout.decode().strip() == "['torch']", done
    return path


# The published shapes.


def test_the_three_models_are_declared():
    assert list(MODELS) == list(PARAMETERS_M)
    assert {name: model["family"] for name, model in MODELS.items()} == {
        "led_base": "led", "led_large": "led", "bigbird_large": "bigbird_pegasus",
    }  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS_M)
def test_a_published_configuration_has_the_published_number_of_parameters(name, tokenizer):
    """With a small tokenizer: the configuration's vocabulary, and the tokenizer's special ids."""
    with torch.device("meta"):
        model = load_family(MODELS[name]["family"]).build(MODELS[name], tokenizer, None, 4096, 128)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(
        PARAMETERS_M[name], abs=0.05
    )
    assert (
        model.config.vocab_size > len(tokenizer)
        and model.config.pad_token_id == tokenizer.pad_token_id
    )


def one_step(name: str, folder: str) -> dict:
    """Forward, backward and one token at length 1024, in its own process so that memory returns."""
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(0)
    start = time.perf_counter()
    family = load_family(MODELS[name]["family"])
    model = family.build(MODELS[name], tokenizer, None, 1024, 128)
    special = SpecialTokens.of(tokenizer)
    ids = torch.randint(5, len(tokenizer), (1400,)).tolist()
    example = Example("a", special.cut(ids, 1024), special.cut(ids, 128), ("",))
    batch = family.collate([example], 1024, 128)
    loss = family.loss(model, batch)
    loss.backward()
    gradients = {key: p.grad for key, p in model.named_parameters()}
    facts = {
        "parameters_m": sum(p.numel() for p in model.parameters()) / 1e6,
        "loss": loss.item(),
        "expected_loss": math.log(model.config.vocab_size),  # of a model that knows nothing
        "shapes": {key: list(value.shape) for key, value in batch.items()},
        "lacking": [key for key, g in gradients.items() if g is None or not g.isfinite().all()],
        "moved": [key for key, g in gradients.items() if g is not None and g.abs().max() > 0],
        "regime": family.regime(model.config.to_dict(), 1024),
        "attention": getattr(model.get_encoder(), "attention_type", None),
    }
    model.zero_grad()
    generation = {**GENERATION_DEFAULTS, "max_new_tokens": 1, "min_new_tokens": 1}
    how = {"protocol": "generated", "generation": generation}
    made = Predictor(family, model.eval(), tokenizer, how=how, precision="fp32", pad_to=1024)
    (result,) = made.predict([example], [[0]])
    # A token that the tokenizer does not know is no text.
    facts |= {
        "output_tokens": [one.output_tokens for one in result.answers],
        "text": result.answers[0].text,
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**facts, "seconds": time.perf_counter() - start, "peak_gib": peak}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes on a machine that does other things too
@pytest.mark.parametrize("name", PARAMETERS_M)
def test_a_published_model_learns_and_predicts_at_its_real_shape(name, tokenizer, tmp_path, capsys):
    tokenizer.save_pretrained(tmp_path)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(one_step, name, str(tmp_path)).result()
    with capsys.disabled():
        took = f"{found['seconds']:.1f} s, peak {found['peak_gib']:.1f} GiB"
        print(f"\n{name}: {took}, loss {found['loss']:.2f}")
    assert found["parameters_m"] == pytest.approx(PARAMETERS_M[name], abs=0.05)
    assert math.isfinite(found["loss"]) and found["loss"] == pytest.approx(
        found["expected_loss"], abs=1.5
    )
    assert (
        found["lacking"] == [] and found["output_tokens"] == [1] and isinstance(found["text"], str)
    )
    assert found["shapes"]["input_ids"] == [1, 1024] and found["shapes"]["labels"] == [1, 128]
    if MODELS[name]["family"] == "led":
        # The global projections learn only where a token attends globally.
        layers = MODELS[name]["config"]["encoder_layers"]
        assert sum(".query_global.weight" in key for key in found["moved"]) == layers
        assert found["shapes"]["global_attention_mask"] == [1, 1024] and found["regime"] is None
    else:
        assert (found["regime"], found["attention"]) == ("block-sparse attention", "block_sparse")


# The benchmark, at a tiny shape.


@pytest.fixture
def one_thread():
    """Threads only wait for each other over tensors this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def tiny(folder: Path, *more: str) -> list[str]:
    return ["--tiny", "--out", str(folder / "t.csv"), "--work", str(folder / "work"), *more]


def no_process(*args, **kwargs):
    raise AssertionError("a process was started")


def test_a_cell_is_measured_metered_drawn_and_not_measured_again(
    tmp_path, machine, bare, monkeypatch, capsys
):
    """As on a machine that has a GPU but neither Snakemake nor datasets nor the scorer."""
    machine.has([FakeGpu(high=300, idle=300)])
    environment = {**machine.environment(), "PYTHONPATH": bare, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "bench.real_shapes",
        *tiny(tmp_path, "--only", "led_base,32,bf16"),
    ]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path / "t.csv")
    assert [row["phase"] for row in rows] == list(real_shapes.PHASES)
    for row in rows:
        assert (row["model"], row["seq_len"], row["precision"]) == ("led_base", "32", "bf16")
        assert (
            row["source"] == "measured"
            and row["initialisation"] == "random"
            and row["documents"] != "NA"
        )
        speed, power = float(row["samples_per_second"]), float(row["mean_power_w"])
        assert speed == pytest.approx(int(row["samples"]) / float(row["duration_s"]), rel=1e-3)
        assert float(row["samples_per_second_per_w"]) == pytest.approx(speed / power, rel=1e-3)
        assert row["energy_source"] == "nvml_counter" and 100 < power < 500
        assert float(row["duration_s"]) >= 0.2 and "short" in row["flags"]
        assert "did nothing" in row["note"]
    train, *others = rows
    assert (
        train["largest_batch_size"] == train["batch_size"] == "3"
        and train["batch_bounded_by"] == "the search"
    )
    assert {row["largest_batch_size"] for row in others} == {"NA"}
    assert (tmp_path / "t.png").stat().st_size > 10_000 and "cost axis of figure 4" in (
        tmp_path / "t.svg"
    ).read_text()

    monkeypatch.setattr(subprocess, "run", no_process)
    assert real_shapes.main(tiny(tmp_path, "--only", "led_base,32,bf16")) == 0
    assert read(tmp_path / "t.csv") == rows and "0 to measure" in capsys.readouterr().out


def test_what_would_not_end_in_time_is_not_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", no_process)
    assert real_shapes.main(tiny(tmp_path, "--deadline", "0")) == 0
    assert "0 rows" in capsys.readouterr().out and not (tmp_path / "t.csv").exists()
    given = real_shapes._parse(["--deadline", "100", "--out", str(tmp_path / "t.csv")])
    assert (
        real_shapes._parse(["--deadline", "100", "--until", "5"]).until == 5
    )  # what began later ends with the others
    # Training has a batch to find first; inference still fits.
    assert [real_shapes._in_time(given, phase) for phase in real_shapes.PHASES] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("cell", ["led_large,64,fp32", "bigbird_large,32,fp32"])
def test_every_model_is_measured_and_without_a_meter_power_is_unknown(tmp_path, cell, one_thread):
    assert real_shapes.main(tiny(tmp_path, "--cell", cell)) == 0
    rows = read(tmp_path / "t.csv")
    assert len(rows) == 3 and {row["source"] for row in rows} == {"measured"}
    assert (
        {row["mean_power_w"] for row in rows}
        == {row["samples_per_second_per_w"] for row in rows}
        == {"NA"}
    )
    assert all(float(row["samples_per_second"]) > 0 for row in rows)
    sparse = cell.startswith("bigbird")
    assert {row["attention"] for row in rows} == {"block-sparse attention" if sparse else "NA"}
    drawn = real_shapes.draw(tmp_path / "t.csv", real_shapes.read_models(tiny=True))
    assert "power was not measured" in drawn[0].read_text()


def out_of_memory(*args):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")


def test_the_batch_is_the_largest_that_fits(tmp_path, monkeypatch, one_thread):
    steps = shape_rates.Rates._steps
    monkeypatch.setattr(
        shape_rates.Rates,
        "_steps",
        lambda *given: out_of_memory() if given[1] > 2 else steps(*given),
    )
    assert real_shapes.main(tiny(tmp_path, "--cell", "led_base,32,fp32")) == 0
    train, *others = read(tmp_path / "t.csv")
    assert (train["largest_batch_size"], train["batch_size"], train["batch_bounded_by"]) == (
        "2",
        "2",
        "memory",
    )
    assert [row["source"] for row in others] == ["measured", "measured"]


def test_what_does_not_fit_is_said_and_not_tried_again(tmp_path, monkeypatch):
    for name in ("_steps", "_batches"):
        monkeypatch.setattr(shape_rates.Rates, name, out_of_memory)
    assert real_shapes.main(tiny(tmp_path, "--cell", "led_base,32,fp32")) == 0
    rows = read(tmp_path / "t.csv")
    assert (
        [row["source"] for row in rows] == [row["samples_per_second"] for row in rows] == ["NA"] * 3
    )
    assert "not one example fits: CUDA out of memory" in rows[0]["note"]
    assert rows[1]["note"].startswith("out of memory: CUDA out of memory")
    assert real_shapes.missing(tmp_path / "t.csv", ("led_base", 32, "fp32")) == []


@pytest.mark.parametrize(
    ("only", "count"),
    [
        ([], 24),
        (["led_base"], 8),
        ([",1024"], 6),
        (["led_base,1024,fp32", "led_large,,bf16"], 5),
        (["led"], 0),
    ],
)
def test_cells_are_named_by_model_length_and_precision(only, count):
    assert len(real_shapes.cells(MODELS, real_shapes.LENGTHS, only)) == count


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--zip", "nowhere.zip"], "nowhere.zip is not there"), (["--device", "cpu"], "give --batch")],
)
def test_what_cannot_be_measured_is_refused(arguments, said, capsys):
    with pytest.raises(SystemExit):
        real_shapes.main(arguments)
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(
    "LONGWATT_SCROLLS_MIRROR" not in os.environ, reason="no folder with SCROLLS zips is named"
)
def test_documents_are_those_of_qmsum(tmp_path):
    given = real_shapes._parse(["--work", str(tmp_path)])
    given.documents = 8
    real_shapes.prepare(tmp_path, given)
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    examples, said = real_shapes._examples(tmp_path, tokenizer, 1024, 128)
    assert {split: len(rows) for split, rows in examples.items()} == {"train": 8, "validation": 8}
    assert said["documents"].startswith("SCROLLS qmsum, tokens by a byte-level BPE of ")
    assert said["full_inputs_pct"] == 100
