"""The forecast of memory: kept bytes against torch's own hooks, and what parts make a peak."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from longwatt.config.studies import read_study
from longwatt.disk_space import GIB
from longwatt.layout.pages import markdown
from longwatt.models.parameter_counts import count_or_reason
from longwatt.plan.causal_shapes import causal_shape
from longwatt.plan.data_sizes import Data
from longwatt.plan.kept import kept_of_causal, kept_of_encoder
from longwatt.plan.memory import Memory, Subject, predicting_memory, training_memory
from longwatt.plan.model_shapes import shape_of
from longwatt.plan.report import facts, plan_page, read_plan, summary

ROWS, LENGTH = 3, 53  # of a batch; a length that is no model's width
SIZES = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 160,
    "vocab_size": 70,
}  # fmt: skip
TOKENS = {"vocab_size": 70, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CAUSAL = {
    "llama": {**SIZES, "num_key_value_heads": 2},
    "qwen2": {**SIZES, "num_key_value_heads": 1},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, **TOKENS},
    "phi": SIZES,
}


def kept_bytes(model, run, half: bool) -> float:
    """Bytes of all tensors that the backward pass would need, weights and their copies left out."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    sizes = {weight.numel() for weight in model.parameters() if weight.dim() == 2}
    found: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        copied = tensor.dtype == torch.bfloat16 and storage.nbytes() // 2 in sizes
        if storage.data_ptr() not in own and not copied:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that none is reused
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        run()
    return sum(size for size, _ in found.values())


def without_dropout(kind: str, sizes: dict):
    config = AutoConfig.for_model(kind, **sizes)
    names = ("attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout_prob")
    for name in (*names, "attention_probs_dropout_prob"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_what_the_layers_of_a_causal_model_keep(kind, attention, half):
    ids, kept = torch.randint(3, 60, (ROWS, LENGTH)), []
    key = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    for layers in (1, 3):
        config = without_dropout(kind, {**CAUSAL[kind], key: layers})
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
        run = partial(model.base_model, ids, use_cache=False)
        kept.append(kept_bytes(model, run, half) / ids.numel())
    shape = causal_shape({"model_type": kind, **CAUSAL[kind]}, attention)
    none = {"dropout": 0.0, "attention_dropout": 0.0}
    found = kept_of_causal(shape, none, LENGTH, half, on_cpu=True)
    assert found == pytest.approx(1.5 * (kept[1] - kept[0]), rel=0.12)


def test_what_dropout_keeps_on_a_cpu():
    """GPT-2 drops out unless it says otherwise, and torch then makes all pairs on a CPU."""
    ids, kept, config = torch.randint(3, 60, (ROWS, LENGTH)), [], dict(CAUSAL["gpt2"])
    for layers in (1, 3):
        made = AutoConfig.for_model("gpt2", **{**config, "n_layer": layers})
        model = AutoModelForCausalLM.from_config(made).train()
        run = partial(model.base_model, ids, use_cache=False)
        kept.append(kept_bytes(model, run, half=False) / ids.numel())
    known = {"model_type": "gpt2", **config}
    shape, wanted = causal_shape(known), 1.5 * (kept[1] - kept[0])
    found, on_gpu = (kept_of_causal(shape, known, LENGTH, False, cpu) for cpu in (True, False))
    assert found == pytest.approx(wanted, rel=0.12) and on_gpu < found


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_the_layers_of_an_encoder_keep(attention):
    ids, kept = torch.randint(3, 60, (ROWS, LENGTH)), []
    for layers in (1, 3):
        config = without_dropout("bert", {**SIZES, "num_hidden_layers": layers})
        model = AutoModel.from_config(
            config, add_pooling_layer=False, attn_implementation=attention
        ).train()
        kept.append(kept_bytes(model, partial(model, ids), half=False) / ids.numel())
    config = {"model_type": "bert", **SIZES}
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    shape = shape_of("early_exit", config)
    found = kept_of_encoder(shape, config, LENGTH, half=False, path=attention, on_cpu=True)
    assert found == pytest.approx(1.5 * (kept[1] - kept[0]), rel=0.12)


LLAMA = {
    "model_type": "llama", "hidden_size": 1000, "num_hidden_layers": 2, "num_attention_heads": 10,
    "num_key_value_heads": 10, "intermediate_size": 2000, "vocab_size": 1000,
}  # fmt: skip
COUNT = 10**9
# The input of both layers, embeddings and norms, and three times what one layer keeps.
CHECKPOINTED = 4 * 1024 * (5 * 4 * 1000 + 3 * (24 * 1000 + 16 * 2000 + 16 * 1000))


def chosen(**changes) -> dict:
    """Settings of a training of prompts and answers on GPUs."""
    found = {
        "seq_len": 1024,
        "protocol": "generated",
        "model": {"family": "causal", "attention": "sdpa"},
        "prompt": {"template": "{input}", "chat": False},
        "generation": {"max_new_tokens": 24, "min_new_tokens": 0, "num_beams": 1},
        "budget": {
            "gpus": 1, "precision": "fp32", "per_device_batch_size": 4, "memory_gib_per_gpu": None,
            "gradient_accumulation_steps": 1,
        },
        "training": {
            "max_target_tokens": 24, "padding": "longest", "activation_checkpointing": False,
            "validation": {"batch_size": 1, "every_steps": 1, "patience": 1, "max_examples": None},
        },
    }  # fmt: skip
    for key, value in changes.items():
        block = next(b for b in (found, found["budget"], found["training"]) if key in b)
        block[key] = value
    return found


def peak(trainable: int = COUNT, lora: dict | None = None, **changes) -> Memory:
    shape = causal_shape(LLAMA, lora=lora)
    data = Data({"train": 100, "validation": 10}, 5000.0, 100.0)
    return training_memory(chosen(**changes), Subject(shape, LLAMA, data, COUNT, trainable))


def test_a_peak_is_weights_moments_and_the_larger_of_gradients_and_activations():
    found = peak()
    assert found.weights == pytest.approx(4 * COUNT / GIB)
    assert found.moments == pytest.approx(8 * COUNT / GIB)
    assert found.gradients + found.activations == pytest.approx(4 * COUNT / GIB)
    assert found.process == found.cache == 0
    assert peak(gradient_accumulation_steps=2).gradients == pytest.approx(4 * COUNT / GIB)
    many = peak(gpus=2)
    assert many.gradients == pytest.approx(found.gradients + 4 * COUNT / GIB), "buckets"


def test_adapters_have_small_gradients_and_moments():
    found = peak(trainable=1000, lora={"rank": 8})
    assert found.gradients < 1e-5 and found.moments < 1e-4
    assert found.weights == peak().weights
    assert found.activations < peak().activations, "norms need none of their inputs"


def test_precision_length_batch_and_checkpointing():
    whole, half = peak(), peak(precision="bf16")
    assert half.weights == pytest.approx(1.5 * whole.weights)
    assert half.activations < whole.activations
    assert peak(seq_len=512).activations == pytest.approx(whole.activations / 2)
    assert peak(per_device_batch_size=8).activations == pytest.approx(2 * whole.activations)
    assert peak(activation_checkpointing=True).activations == pytest.approx(CHECKPOINTED / GIB)


def test_batches_of_so_many_tokens_hold_as_many_rows_as_fit_and_one_at_least():
    def with_tokens(most: int) -> Memory:
        return training_memory(tokens(most), Subject(causal_shape(LLAMA), LLAMA, DATA, 1, 1))

    def tokens(most: int) -> dict:
        made = chosen()
        made["budget"] |= {"max_tokens_per_batch": most, "per_device_batch_size": None}
        return made

    four = training_memory(chosen(), Subject(causal_shape(LLAMA), LLAMA, DATA, 1, 1)).activations
    assert with_tokens(4 * 1024).activations == pytest.approx(four)
    assert with_tokens(4 * 1024 + 500).activations == pytest.approx(four)
    assert with_tokens(100).activations == pytest.approx(four / 4)


DATA = Data({"train": 100, "validation": 10}, 5000.0, 100.0)


def test_generation_keeps_keys_and_values_of_prompts_and_answers():
    settings = chosen()
    settings |= {"inference": {"batch_size": 8}, "padding": "longest", "max_target_tokens": 24}
    del settings["training"]
    subject = Subject(causal_shape(LLAMA), LLAMA, DATA, COUNT, COUNT)
    found = predicting_memory(settings, subject)
    one_layer = 8 * 2 * 1000 * 1024 * 4
    assert found.cache == pytest.approx(3 * one_layer / GIB), "two layers, and a copy of one"
    assert found.moments == found.gradients == 0
    beams = {**settings, "generation": {**settings["generation"], "num_beams": 3}}
    assert predicting_memory(beams, subject).cache == pytest.approx(3 * found.cache)
    taught = predicting_memory({**settings, "protocol": "teacher_forced"}, subject)
    assert taught.cache == 0 and taught.logits > found.logits


@pytest.mark.parametrize(
    ("family", "attention", "whole"),
    [("seq2seq", "stock", False), ("led", "stock", True), ("led", "fast", False)],
)
def test_only_the_published_path_holds_all_logits(family, attention, whole):
    sizes = {"model_type": "bart", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
             "vocab_size": 50_000}  # fmt: skip
    settings = chosen(model={"family": family, "attention": attention}, max_target_tokens=1000)
    subject = Subject(shape_of(family, sizes, attention=attention), sizes, DATA, COUNT, COUNT)
    logits = training_memory(settings, subject).logits
    assert (logits > 0.5) is whole and logits > 0


STUDY = """
title: Tiny
datasets:
  needle: {source: needle, metric: f1,
           options: {words_per_document: 4000, train: 640, validation: 100, test: 4}}
tokenizers: {bpe: {kind: byte_level_bpe, vocab_size: 600}}
models:
  llama: {family: causal, initialisation: random, tokenizer: bpe,
          config: {model_type: llama, hidden_size: 64, num_hidden_layers: 2,
                   num_attention_heads: 4, intermediate_size: 128}}
  led: {family: led, initialisation: random, tokenizer: bpe,
        config: {d_model: 64, encoder_layers: 1, decoder_layers: 1, attention_window: 32,
                 encoder_ffn_dim: 64, decoder_ffn_dim: 64}}
budgets:
  gpu: {gpus: 1, per_device_batch_size: 4, memory_gib_per_gpu: 0.015}
  cpu: {gpus: 0, per_device_batch_size: 4}
training: {max_steps: 100, max_target_tokens: 16, validation: {every_steps: 50}}
inference: {greedy: {split: validation}}
grid:
  - {datasets: [needle], models: [llama, led], seq_lens: [64, 512], budgets: [gpu, cpu]}
"""


@pytest.fixture
def plan(tmp_path, study_schema, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "longwatt.plan.disk.counted", lambda models: [*map(count_or_reason, models)]
    )
    Path("s.yaml").write_text(STUDY)
    study = read_study(Path("s.yaml"), study_schema)
    return lambda: read_plan(
        {"study_id": "s", "study": study, "machine": {}, "gpus_given": 1, "gpus_found": 0}
        | {"demo": None},
        {},
    )


def test_the_plan_warns_of_cells_above_their_budgets_memory(plan):
    found = plan()
    above = {name for name, memory in found.memories.items() if memory.exceeds}
    assert above and all("/gpu/" in name for name in above)
    assert len(above) < 4, "short inputs fit"
    text = markdown("Plan", plan_page(found))
    warning = f"WARNING: the forecast exceeds memory_gib_per_gpu in {len(above)} of 8 cells"
    assert warning in text.replace("\n", " ") and any(warning in line for line in summary(found))
    assert json.dumps(facts(found)["memory"])
    cpu = found.memories["needle/llama/512/cpu/generated/seed42"]
    assert cpu.most.process > 0 and cpu.limit_gib is None and not cpu.exceeds


def test_measured_peaks_show_how_far_forecasts_were_off(plan):
    name = "needle/llama/512/cpu/generated/seed42"
    total = plan().memories[name].training.total
    Path("results/s").mkdir(parents=True)
    with Path("results/s/summary.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["cell", "inference", "peak_memory_gib"])
        writer.writerow([name, "greedy", total * 2])
        writer.writerow([name, "zero_shot", "NA"])
    found = plan()
    assert found.memory_misses == {}, "made with other settings or code than now"
    demo = found.__class__(
        found.stages, found.runtimes, found.gpus, frozenset({(name, "finetune")}), None
    )
    miss = demo.memory_misses["s"]
    assert (miss.cells, miss.over, miss.worst_cell) == (1, 0, name)
    assert miss.worst == miss.median == pytest.approx(2)
