"""The engine, in this process, on a tiny cell."""

import copy
import csv
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longwatt.config.documents import merge
from longwatt.energy.log import runs
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.inference import predict
from longwatt.jobs.errors import WorkerError
from longwatt.jobs.worker import Spec
from longwatt.models import load_family
from longwatt.models.errors import ModelError
from longwatt.models.family import Example
from longwatt.models.weights.download import download_model
from longwatt.provenance.artefacts import Damaged
from longwatt.tokens.special_tokens import load_split, load_tokenizer
from longwatt.training import batching, finetune
from longwatt.training.ledger import Ledger
from longwatt.training.trainer import CellTrainer
from tests.needle_data import make_data
from tests.tiny_cell import inference_spec, training_spec

OF_TOKENS = {"per_device_batch_size": None, "max_tokens_per_batch": 320}


def train(study, data, out, changes=None, checkpoint=None) -> dict:
    finetune.train(training_spec(study, data, out, changes, checkpoint))
    return json.loads((out / "training.json").read_text())


def test_early_stopping_keeps_the_best_weights(study, data, tmp_path):
    still = {
        "learning_rate": 1e-12,
        "max_steps": 20,
        "validation": {"every_steps": 2, "patience": 2},
    }
    facts = train(study, data, tmp_path, {"training": still})
    assert facts["stopped_early"] and facts["steps"] == 6
    assert facts["ended_by"] == "early_stopping"
    assert (facts["best_step"], facts["validations"], facts["max_steps"]) == (2, 3, 20)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_batches_are_made_while_the_step_before_is_computed(
    study, data, tmp_path, monkeypatch, accumulation
):
    """Its check waits for the device; all of the next step's batches are there by then."""
    seen, left = [], []
    collate, check, train_ = finetune._collate, CellTrainer._not_finite, CellTrainer.train

    def note(what, function):
        return lambda *args: (seen.append(what), function(*args))[1]

    def train_and_look(self, *args, **kwargs):
        train_(self, *args, **kwargs)
        left.extend([*self._source, *self._ahead])

    monkeypatch.setattr(finetune, "_collate", note("batch", collate))
    monkeypatch.setattr(CellTrainer, "_not_finite", note("check", check))
    monkeypatch.setattr(CellTrainer, "train", train_and_look)
    budget = {"gradient_accumulation_steps": accumulation}
    facts = train(study, data, tmp_path, {"budget": budget, "training": {"max_steps": 4}})
    step = ["batch"] * accumulation
    assert seen == [*step, *[*step, "check"] * 4]
    assert facts["samples"] == 4 * 4 * accumulation, "a batch that is not trained on is not counted"
    assert left == [], "a loader's processes end with the training"


def test_the_paper_s_optimiser_and_schedule_are_used(study, data, tmp_path, monkeypatch):
    seen = {}

    def look(self, *args, **kwargs):
        optimizer = (
            self.optimizer.optimizer if hasattr(self.optimizer, "optimizer") else self.optimizer
        )
        group = optimizer.param_groups[0]
        seen.setdefault("rates", []).append(group["lr"])
        seen.update({name: group[name] for name in ("betas", "eps", "weight_decay")})
        return original(self, *args, **kwargs)

    original = finetune.CellTrainer.training_step
    monkeypatch.setattr(finetune.CellTrainer, "training_step", look)
    train(study, data, tmp_path, {"training": {"max_steps": 20, "validation": {"patience": 9}}})
    assert (seen["betas"], seen["eps"], seen["weight_decay"]) == ((0.9, 0.98), 1e-6, 0.001)
    # A tenth of the steps is warm-up, then a line to zero.
    expected = [0, 0.5e-3, *(1e-3 * (20 - step) / 18 for step in range(2, 20))]
    assert seen["rates"] == pytest.approx(expected)


def test_accumulation_counts_every_sample_once(study, data, tmp_path):
    changes = {"budget": {"gradient_accumulation_steps": 3}, "training": {"max_steps": 4}}
    facts = train(study, data, tmp_path, changes)
    assert (facts["effective_batch_size"], facts["samples"]) == (12, 48)


def test_padding_to_the_full_length_is_counted_apart(study, data, tmp_path):
    facts = train(study, data, tmp_path, {"training": {"padding": "max_length", "max_steps": 4}})
    assert facts["padded_input_tokens"] == 4 * 4 * 64
    assert facts["input_tokens"] < facts["padded_input_tokens"]
    assert facts["target_tokens"] > 4 * 4


def test_batches_of_so_many_tokens(study, data, tmp_path, monkeypatch):
    held = []
    loss = type(load_family("led")).loss

    def noted(self, model, batch):
        if model.training:
            held.append(tuple(batch["input_ids"].shape))
        return loss(self, model, batch)

    monkeypatch.setattr(type(load_family("led")), "loss", noted)
    changes = {"budget": {**OF_TOKENS, "gradient_accumulation_steps": 2}}
    facts = train(study, data, tmp_path / "longest", changes)
    counts = [rows * width for rows, width in held]
    assert max(counts) <= 320 and {rows for rows, _ in held} == {4, 6}, "64 = 10 x 6 + 4"
    assert len(held) == 8 * 2 - 1, "an epoch of 11 batches ends with a step of one"
    assert (facts["padded_input_tokens"], facts["samples"]) == (
        sum(counts),
        sum(rows for rows, _ in held),
    )
    assert facts["effective_batch_size"] == facts["samples"] / 8
    assert (facts["max_tokens_per_batch"], facts["gradient_accumulation_steps"]) == (320, 2)
    assert "per_device_batch_size" not in facts
    assert facts["padding_share"] == 1 - facts["input_tokens"] / sum(counts)
    held.clear()
    train(study, data, tmp_path / "full", merge(changes, {"training": {"padding": "max_length"}}))
    assert set(held) == {(5, 64), (4, 64)} or set(held) == {(5, 64)}, "padding counts too"


def test_a_split_that_fills_no_step_of_tokens_is_refused(study, data, tmp_path):
    budget = {**OF_TOKENS, "max_tokens_per_batch": 2000, "gradient_accumulation_steps": 4}
    said = r"the 64 examples of the training split make [23] batches of at most 2000 tokens"
    with pytest.raises(WorkerError, match=said):
        train(study, data, tmp_path, {"budget": budget})


def test_padding_to_the_full_length_counts_in_batches_of_tokens():
    class Examples:
        lengths = (7, 9)  # of prompts with their answers, where they share a row

        def __len__(self):
            return 2

    settings = {"training": {"padding": "longest"}, "seq_len": 64}
    spec = Spec(settings, {}, {}, {}, "")
    assert batching.row_lengths(spec, Examples()) == (7, 9)
    settings["training"]["padding"] = "max_length"
    assert batching.row_lengths(spec, Examples()) == [64, 64]


def test_the_padding_share_of_batches_of_examples_is_told_too(study, data, tmp_path):
    facts = train(study, data, tmp_path, {"training": {"padding": "max_length", "max_steps": 4}})
    assert facts["padding_share"] == 1 - facts["input_tokens"] / (4 * 4 * 64)
    assert 0 < facts["padding_share"] < 1 and Ledger().padding_share is None


def test_both_protocols_train_and_teacher_forcing_predicts_as_many_tokens_as_the_target(
    led, study, data, tmp_path
):
    assert train(study, data, tmp_path, {"protocol": "teacher_forced"})["steps"] == 8
    family, model, _ = led
    examples = [
        Example("a", [0, 5, 2], [0, 6, 7, 2], ("x",)),
        Example("b", [0, 5, 6, 2], [0, 2], ("y",)),
    ]
    batch = family.collate(examples, None, None)
    model.eval()
    forced = family.predict(
        model, batch, {"protocol": "teacher_forced", "generation": {"max_new_tokens": 1}}
    )
    assert [len(row) for row in forced] == [4, 2], (
        "the length of the gold target, not of a generation"
    )
    stock = type(model).forward(model, **batch)
    assert forced[0] == stock.logits[0].argmax(-1).tolist()


def test_as_published_every_reference_is_validated_and_predicted_on_its_own(study, data, tmp_path):
    published = {
        "protocol": "teacher_forced",
        "comparison": {"text": "normalized", "references": "each", "max_reference_tokens": 6},
        "training": {"padding": "max_length"},
    }
    facts = train(study, data, tmp_path, published)
    assert facts["padded_input_tokens"] == facts["samples"] * 64, (
        "every input is padded to the cell's length"
    )
    padded = {"protocol": "teacher_forced", "references": "each", "padding": "max_length"}
    rows, _ = infer(study, data, tmp_path / "model", tmp_path / "predict", padded)
    references = load_split(data / "tokens", "validation", None)
    assert [row["id"] for row in rows] == [f"{id_}#0" for id_ in references["id"]]


def test_a_step_computes_the_same_whatever_fits(study, tmp_path):
    """12 examples a step with targets of 1 to 12 words, and 4 in the last: 12, 5 or 2 at once."""
    rows = [
        {"id": n, "input": f"say {n} " * 20, "output": f"{n} " * (1 + 5 * n % 12)}
        for n in range(64)
    ]
    files = {split: tmp_path / f"{split}.jsonl" for split in ("train", "validation")}
    for path in files.values():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {
        "source": "jsonl",
        "options": {"files": {split: str(path) for split, path in files.items()}},
    }
    ragged = make_data(tmp_path / "data", source, {"vocab_size": 600, "min_frequency": 1})
    weights = []
    for most, per_device, accumulation in ((12, 12, 1), (5, 4, 3), (2, 2, 6)):
        changes = {
            "budget": {"per_device_batch_size": most, "effective_batch_size": 12},
            "training": {"max_steps": 7, "max_target_tokens": 24, "validation": {"every_steps": 7}},
            "model": {"config": {"dropout": 0}},
        }
        facts = train(study, ragged, tmp_path / str(most), changes)
        assert (facts["effective_batch_size"], facts["samples"]) == (12, 6 * 12 + 4)
        assert (facts["per_device_batch_size"], facts["gradient_accumulation_steps"]) == (
            per_device,
            accumulation,
        )
        weights.append(load_file(tmp_path / str(most) / "model/model.safetensors"))
    # Adam divides by the size of a gradient: where that is next to nothing, rounding shows.
    for other in weights[1:]:
        apart = torch.cat([(weights[0][name] - other[name]).abs().flatten() for name in other])
        assert apart.mean() < 1e-6 and apart.max() < 5e-4


def test_a_checkpoint_is_where_training_starts(study, data, tmp_path):
    train(study, data, tmp_path / "first")
    download_model({"path": str(tmp_path / "first/model")}, tmp_path / "resources", {})
    still = {
        "training": {"learning_rate": 1e-12, "max_steps": 1},
        "model": {"initialisation": "checkpoint"},
    }
    still["model"]["config"] = None
    facts = train(study, data, tmp_path / "second", still, tmp_path / "resources")
    before, after = (
        load_file(tmp_path / f"{n}/model/model.safetensors") for n in ("first", "second")
    )
    assert facts["initialisation"] == "checkpoint"
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    with (tmp_path / "resources/model.safetensors").open("r+b") as stream:
        stream.seek(-9, os.SEEK_END)
        stream.write(b"rot")
    with pytest.raises(
        Damaged,
        match=r"resources/model\.safetensors is damaged \(its SHA-256.*put a sound copy back",
    ):
        train(study, data, tmp_path / "third", still, tmp_path / "resources")


def test_bf16_runs_on_a_cpu_too(study, data, tmp_path):
    assert train(study, data, tmp_path, {"budget": {"precision": "bf16"}})["steps"] == 8


@pytest.mark.long
def test_equal_seeds_train_equal_weights_and_others_do_not(study, data, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(study, data, tmp_path / name, {"seed": seed})
    a, b, c = (load_file(tmp_path / f"{n}/model/model.safetensors") for n in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_history_is_complete_whatever_the_log_interval(study, data, tmp_path):
    train(study, data, tmp_path, {"training": {"log_every_steps": 3}})
    with (tmp_path / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows if row["loss"] != "NA"] == ["3", "6"]
    assert all(0 < float(row["loss"]) < 10 for row in rows if row["loss"] != "NA")


RESUMED = {
    "dropout in the third epoch": {
        "training": {"max_steps": 36, "checkpoint_every_s": 0, "log_every_steps": 7}
    },
    "accumulation": {
        "budget": {"gradient_accumulation_steps": 3},
        "training": {"max_steps": 14, "checkpoint_every_s": 0},
    },
    "batches of so many tokens": {
        "budget": {**OF_TOKENS, "gradient_accumulation_steps": 2},
        "training": {"max_steps": 18, "checkpoint_every_s": 0},
    },
}
COUNTS = ("samples", "input_tokens", "padded_input_tokens", "target_tokens", "steps", "best_step",
          "best_score", "validations", "epochs", "without_improvement")  # fmt: skip


def killed_at(monkeypatch, step: int, study, data, out, changes) -> None:
    """Train until an optimiser step begins, and no further."""

    def stop(self, *args, **kwargs):
        if self.state.global_step >= step:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    original = finetune.CellTrainer.training_step
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetune.CellTrainer, "training_step", stop)
        train(study, data, out, changes)


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


@pytest.mark.parametrize("case", RESUMED)
def test_resumed_at_any_step_a_training_ends_as_if_undisturbed(
    study, data, tmp_path, monkeypatch, case
):
    changes = merge(
        RESUMED[case],
        {"model": {"config": {"dropout": 0.3}}, "training": {"validation": {"patience": 9}}},
    )
    whole = train(study, data, tmp_path / "whole", changes)
    steps = whole["steps"]
    assert whole["epochs"] > 2
    for step in (steps // 3, 2 * steps // 3, steps - 1):
        killed_at(monkeypatch, step, study, data, tmp_path / "killed", changes)
    resumed = train(study, data, tmp_path / "killed", changes)
    assert [a["from_step"] for a in resumed["attempts"]] == [
        0,
        steps // 3,
        2 * steps // 3,
        steps - 1,
    ]
    assert {name: resumed[name] for name in COUNTS} == {name: whole[name] for name in COUNTS}
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    a, b = (load_file(tmp_path / f"{n}/model/model.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_times_are_those_of_the_energy_log_and_starting_again_is_no_training(
    study, data, tmp_path, monkeypatch
):
    changes = {"training": {"max_steps": 6, "checkpoint_every_s": 0}}
    killed_at(monkeypatch, 3, study, data, tmp_path, changes)
    original = finetune.CellTrainer._load_from_checkpoint

    def slow(self, *args, **kwargs):
        time.sleep(2)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(finetune.CellTrainer, "_load_from_checkpoint", slow)
    facts = train(study, data, tmp_path, changes)
    logged = summarize_log(runs(tmp_path / "work"))
    for phase in ("train", "validation", "checkpoint"):
        assert facts[f"{phase}_s"] == pytest.approx(logged["phases"][phase]["duration_s"], abs=1e-6)
    assert facts["train_runtime_s"] == pytest.approx(logged["duration_s"], abs=1e-6)
    loads = [i for i in logged["timeline"] if i["phase"] == "load"]
    assert loads[-1]["end_s"] - loads[-1]["start_s"] > 2
    assert logged["wasted"]["duration_s"] > 2, (
        "loading again is wasted, and so is the work past the checkpoint"
    )


def test_a_completed_training_is_put_in_place_again_unless_a_new_one_is_asked_for(
    study, data, tmp_path, monkeypatch
):
    first = train(study, data, tmp_path)
    weights = load_file(tmp_path / "model/model.safetensors")
    names = ("training.json", "history.csv", "model/model.safetensors")
    contents = {name: (tmp_path / name).read_bytes() for name in names}
    for name in names:  # as Snakemake does when it was killed before it could record the job
        (tmp_path / name).unlink()
    train(study, data, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names} == contents
    monkeypatch.setenv("LONGWATT_ANEW", "a command:finetune")
    again = train(study, data, tmp_path)
    assert again["attempts"] != first["attempts"] and len(again["attempts"]) == 1
    assert all(
        torch.equal(load_file(tmp_path / "model/model.safetensors")[n], weights[n]) for n in weights
    )


def infer(
    study, data, model: Path, out: Path, changes: dict | None = None
) -> tuple[list[dict], dict]:
    predict.infer(inference_spec(study, data, model, out, changes))
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    return rows, json.loads((out / "inference.json").read_text())


@pytest.fixture(scope="module")
def trained(study, data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train(study, data, out)
    return out / "model"


def test_predictions_do_not_depend_on_the_batch_size(study, data, trained, tmp_path):
    by_size = {
        n: infer(study, data, trained, tmp_path / str(n), {"inference": {"batch_size": n}})
        for n in (1, 5, 12)
    }
    texts = [{row["id"]: row["prediction"] for row in rows} for rows, _ in by_size.values()]
    assert texts[0] == texts[1] == texts[2] and len(texts[0]) == 12
    singles, facts = by_size[1]
    assert [row["batch"] for row in singles] == list(range(12))
    assert facts["batches"] == 12 and facts["samples"] == 12
    assert facts["inference_runtime_s"] == pytest.approx(
        sum(row["batch_seconds"] for row in singles)
    )


def test_warm_up_is_left_out_of_the_measured_window(study, data, trained, tmp_path, monkeypatch):
    calls = []
    original = predict.Predictor._predict_batch
    monkeypatch.setattr(
        predict.Predictor, "_predict_batch", lambda s, c: calls.append(len(c)) or original(s, c)
    )
    _, facts = infer(
        study, data, trained, tmp_path / "x", {"inference": {"batch_size": 6, "warmup_batches": 1}}
    )
    assert calls == [6, 6, 6] and facts["batches"] == 2


def test_a_part_of_a_split_and_short_generation(study, data, trained, tmp_path):
    changes = {"inference": {"max_examples": 4}, "generation": {"max_new_tokens": 1}}
    rows, facts = infer(study, data, trained, tmp_path / "x", changes)
    assert len(rows) == 4 and all(row["output_tokens"] <= 1 for row in rows)
    assert facts["output_tokens"] == sum(row["output_tokens"] for row in rows)


def test_beams_are_passed_on(study, data, trained, tmp_path):
    rows, _ = infer(
        study,
        data,
        trained,
        tmp_path / "x",
        {"generation": {"num_beams": 2, "length_penalty": 0.5}},
    )
    assert len(rows) == 12


@pytest.fixture
def led(study, data):
    tokenizer = load_tokenizer(data / "bpe")
    family = load_family("led")
    return (
        family,
        family.build(copy.deepcopy(study["models"]["led"]), tokenizer, None, 64, 32),
        tokenizer,
    )


def test_led_pads_its_global_attention_mask(led):
    family, _, tokenizer = led
    examples = [
        Example("a", [0, 5, 2], [0, 6, 2], ("x",)),
        Example("b", [0, 5, 6, 7, 2], [0, 2], ("y",)),
    ]
    batch = family.collate(examples, None, None)
    assert batch["input_ids"][0].tolist() == [
        0,
        5,
        2,
        tokenizer.pad_token_id,
        tokenizer.pad_token_id,
    ]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert batch["global_attention_mask"].tolist() == [[1, 0, 0, 0, 0]] * 2
    assert batch["labels"].tolist() == [[0, 6, 2], [0, 2, -100]]
    assert family.collate(examples, 8, 4)["input_ids"].shape == (2, 8)
    assert family.collate(examples, 8, 4)["labels"].shape == (2, 4)


def test_global_attention_reaches_generation(led):
    family, model, _ = led
    seen = []
    model.led.encoder.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["global_attention_mask"]), with_kwargs=True
    )
    batch = family.collate([Example("a", [0, 5, 6, 2], [0, 2], ("x",))], None, None)
    family.predict(model, batch, {"protocol": "generated", "generation": {"max_new_tokens": 2}})
    assert seen[0][0, 0] == 1 and seen[0][0, 1:].sum() == 0


def test_an_input_longer_than_the_positions_is_refused(study, data):
    with pytest.raises(
        ModelError, match="seq_len 256 is above the model's max_encoder_position_embeddings of 128"
    ):
        load_family("led").build(study["models"]["led"], load_tokenizer(data / "bpe"), None, 256, 8)


def test_only_safetensors_are_taken(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        download_model({"path": str(tmp_path)}, tmp_path / "out", {})
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        download_model({"path": str(tmp_path)}, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_a_replaced_source_leaves_nothing_of_the_one_before(tmp_path):
    source = tmp_path / "source"
    for names in (
        ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ("model.safetensors",),
    ):
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for name in ("config.json", *names):
            (source / name).write_text("{}")
        download_model({"path": str(source)}, tmp_path / "out", {})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.json",
        "model.safetensors",
    ]


def refuse_fast(monkeypatch) -> None:
    """Have every LED need the stock path, for a reason of this test."""

    def attach(self, built, path: str) -> str | None:
        return None if path == "stock" else "this is a test"

    monkeypatch.setattr(type(load_family("led")), "_attach", attach)


def test_the_path_of_attention_in_use_is_recorded(study, data, tmp_path, monkeypatch, capsys):
    refuse_fast(monkeypatch)
    short = {"training": {"max_steps": 4}}
    facts = train(study, data, tmp_path / "asked", short)
    assert facts["attention"] == "stock" and "this is a test" in facts["notes"]
    assert capsys.readouterr().out.count("attention is stock: this is a test") == 1
    _, told = infer(study, data, tmp_path / "asked" / "model", tmp_path / "predicted")
    assert told["attention"] == "stock"
    assert "attention is stock: this is a test" in capsys.readouterr().out
    chosen = {**short, "model": {"attention": "stock"}}
    facts = train(study, data, tmp_path / "chosen", chosen)
    assert (facts["attention"], facts["notes"]) == ("stock", [])
    assert "attention is" not in capsys.readouterr().out


@pytest.mark.parametrize("protocol", ["generated", "teacher_forced"])
def test_both_paths_train_and_validate_alike(study, data, tmp_path, protocol):
    """Ten steps have equal losses, and every validation an equal score."""
    steps = {"max_steps": 10, "validation": {"every_steps": 2, "patience": 9}}
    changes = {"protocol": protocol, "training": steps, "execution": {"log_every_steps": 1}}
    histories = {}
    for path in ("fast", "stock"):
        out = tmp_path / path
        model = {"attention": path, "config": {"dropout": 0}}
        facts = train(study, data, out, merge(changes, {"model": model}))
        assert facts["attention"] == path
        with (out / "history.csv").open() as stream:
            histories[path] = list(csv.DictReader(stream))
    fast, stock = histories.values()
    scores = [[row["score"] for row in rows] for rows in (fast, stock)]
    assert scores[0] == scores[1] and len(set(scores[0])) > 1
    losses = [[float(r["loss"]) for r in rows if r["loss"] != "NA"] for rows in (fast, stock)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0]


def test_the_path_that_settings_choose_is_built(study, data, tmp_path, monkeypatch):
    asked = []
    family = type(load_family("led"))
    monkeypatch.setattr(family, "_attach", lambda self, built, path: asked.append(path))
    facts = train(study, data, tmp_path, {"training": {"max_steps": 4}})
    _, told = infer(study, data, tmp_path / "model", tmp_path / "fast")
    stock = {"attention": "stock"}
    _, other = infer(study, data, tmp_path / "model", tmp_path / "stock", stock)
    assert asked == ["fast", "fast", "stock"]
    assert [facts["attention"], told["attention"], other["attention"]] == asked


def test_batches_by_both_paths_say_both(study, data, trained, tmp_path, monkeypatch):
    spec = inference_spec(study, data, trained, tmp_path)
    paths = iter(["fast", "stock", "fast"])
    predicted = predict.Progress.keep

    def keep(self, number, result, *more, **named):
        predicted(self, number, {**result, "attention": next(paths)}, *more, **named)

    monkeypatch.setattr(predict.Progress, "keep", keep)
    predict.infer(spec)
    assert json.loads((tmp_path / "inference.json").read_text())["attention"] == "fast / stock"
