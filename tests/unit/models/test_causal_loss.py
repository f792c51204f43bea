"""The loss of decoder-only models: equal to transformers' own, for less memory."""

import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from longwatt.models.attention.loss import linear_cross_entropy
from longwatt.models.errors import ModelError
from longwatt.models.losses import label_loss
from longwatt.training.trainer import counts_of
from tests.unit.models.causal_models import BATCH, FORCED, KINDS, build, entry_of, examples

LORA = {"r": 4, "lora_alpha": 8, "init_lora_weights": False}


def gradients(model) -> dict:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def with_gradients(model, loss) -> tuple[float, dict]:
    loss.backward()
    return float(loss), gradients(model)


def assert_equal(found, expected, close=1e-5):
    (loss, own), (other_loss, other) = found, expected
    assert loss == pytest.approx(other_loss, rel=1e-6)
    assert own.keys() == other.keys()
    largest = max(float(gradient.abs().max()) for gradient in other.values())
    for name, gradient in other.items():
        torch.testing.assert_close(own[name], gradient, rtol=close, atol=close * largest, msg=name)


def stock_loss(model, batch):
    return type(model).forward(model, **batch).loss


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_all_gradients_are_those_of_transformers(kind):
    family, model = build(kind)
    batch = family.collate(examples(*BATCH), 60, None)
    expected = with_gradients(model, stock_loss(model, batch))
    assert_equal(with_gradients(model, family.loss(model, batch)), expected)
    assert_equal(with_gradients(model, model(**batch).loss), expected)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("llama", (1.0, None)), ("gemma2", (1.0, 3.0)), ("cohere", (0.0625, None)),
        ("granite", (0.25, None)), ("phi", (1.0, None)), ("gpt2", (1.0, None)),
    ],
)  # fmt: skip
def test_the_head_s_form_is_found_and_its_loss_is_chunked(kind, form, monkeypatch):
    family, model = build(kind)
    assert getattr(model, label_loss.HEAD_FORM) == form
    batch = family.collate(examples(*BATCH), None, None)
    whole = with_gradients(model, family.loss(model, batch))
    monkeypatch.setattr("longwatt.models.attention.loss.CHUNK", 400)  # two labels at a time
    assert_equal(with_gradients(model, family.loss(model, batch)), whole)


def test_a_cap_that_random_weights_do_not_show_is_found():
    config = {**entry_of("gemma2"), "final_logit_softcapping": 30.0, "initializer_range": 1e-3}
    _, model = build(config=config, attention="eager")
    assert getattr(model, label_loss.HEAD_FORM) == (1.0, 30.0)


def test_a_head_that_is_not_linear_keeps_its_own_code(monkeypatch):
    monkeypatch.setattr(label_loss, "_form_of", lambda *args: None)
    family, model = build("gemma2")
    batch, seen = family.collate(examples(*BATCH), None, None), []
    assert getattr(model, label_loss.HEAD_FORM) is None
    expected = with_gradients(model, stock_loss(model, batch))
    model.lm_head.register_forward_hook(lambda part, args, out: seen.append(out.shape[:-1]))
    assert_equal(with_gradients(model, family.loss(model, batch)), expected)
    assert seen == [(1, 4 + 7 + 1 + 3)], "only states that predict a label went through it"


def test_tied_embeddings_get_both_gradients():
    family, model = build("tied")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    batch = family.collate(examples(*BATCH), None, None)
    _, found = with_gradients(model, family.loss(model, batch))
    own = found["model.embed_tokens.weight"]
    model.model.embed_tokens.weight.requires_grad_(False)
    (only,) = (name for name in found if name not in gradients_of(family, model, batch))
    assert only == "model.embed_tokens.weight"
    unseen = sorted(set(range(200)) - set(batch["input_ids"].flatten().tolist()))
    assert float(own[unseen].abs().min()) > 0, "the head's reaches tokens that no text has"


def gradients_of(family, model, batch):
    return with_gradients(model, family.loss(model, batch))[1]


def test_no_gradient_of_a_frozen_head_is_computed_or_kept():
    weight, states = torch.randn(50, 8), torch.randn(4, 8, requires_grad=True)
    labels = torch.tensor([1, 2, 3, 4])
    kept = linear_cross_entropy(states, weight, labels).grad_fn.saved_tensors
    assert [part is None for part in kept] == [False, True, True]
    weight.requires_grad_()
    with torch.no_grad():
        assert linear_cross_entropy(states, weight, labels).grad_fn is None


def test_a_bias_of_the_head_is_learnt():
    bias = torch.randn(50, requires_grad=True)
    weight, states = torch.randn(50, 8), torch.randn(4, 8)
    labels = torch.tensor([1, 2, 3, 4])
    linear_cross_entropy(states, weight, labels, bias).backward()
    own, bias.grad = bias.grad, None
    torch.nn.functional.cross_entropy(states @ weight.t() + bias, labels).backward()
    torch.testing.assert_close(own, bias.grad)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj"], ["lm_head"]])
def test_adapters_learn_what_they_would_by_transformers(targets):
    family, model = build("llama")
    batch = family.collate(examples(*BATCH), None, None)
    adapted = get_peft_model(model, LoraConfig(**LORA, target_modules=targets))
    stock = type(model).forward(model, **batch).loss
    expected = with_gradients(adapted, stock)
    assert_equal(with_gradients(adapted, family.loss(adapted, batch)), expected)
    assert all("lora_" in name for name in expected[1])
    family.place(adapted, torch.device("cpu"), "fp32")
    assert_equal(with_gradients(adapted, family.loss(adapted, batch)), expected)
    with torch.no_grad():
        best = type(model).forward(model, **batch).logits[:, :-1].argmax(-1)
        rows = family.predict(adapted.eval(), batch, FORCED)
    assert rows == [
        row[mask].tolist() for row, mask in zip(best, batch["labels"][:, 1:] >= 0, strict=True)
    ]


def test_activation_checkpointing_changes_nothing():
    family, model = build("llama")
    batch = family.collate(examples(*BATCH), None, None)
    expected = with_gradients(model, family.loss(model, batch))
    model.train().gradient_checkpointing_enable()
    assert_equal(with_gradients(model, family.loss(model, batch)), expected)


def test_mixed_precision_computes_what_transformers_does():
    family, model = build("llama")
    batch = family.collate(examples(*BATCH), None, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stock = stock_loss(model, batch)
    expected = with_gradients(model, stock)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        own = family.loss(model, batch)
    found = with_gradients(model, own)
    assert found[0] == pytest.approx(expected[0], rel=2e-3)
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).norm()) < 0.05 * float(gradient.norm()), name


def test_several_devices_gather_the_gradients(tmp_path):
    family, model = build("llama")
    batch = family.collate(examples(*BATCH), None, None)
    expected = with_gradients(model, family.loss(model, batch))
    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        wrapped, gathered = DistributedDataParallel(model), []

        def note(state, bucket):
            gathered.append(bucket.buffer().numel())
            future = torch.futures.Future()
            future.set_result(bucket.buffer())
            return future

        wrapped.register_comm_hook(None, note)
        assert_equal(with_gradients(model, family.loss(wrapped, batch)), expected)
    finally:
        distributed.destroy_process_group()
    assert sum(gathered) == sum(p.numel() for p in model.parameters())


PACKED = [kind for kind in KINDS]


@pytest.mark.parametrize("kind", PACKED)
def test_packed_examples_have_the_loss_of_padded_ones(kind):
    family, model = build(kind)
    family.check_packing(model, "fp32")
    chosen = examples(*BATCH)
    expected = with_gradients(model, family.loss(model, family.collate(chosen, None, None)))
    packed = with_gradients(model, family.loss(model, family.pack(chosen)))
    assert packed[0] == pytest.approx(expected[0], rel=1e-6)
    assert_equal(packed, expected, close=1e-4)


def test_a_packed_row_begins_its_positions_anew():
    family, _ = build("llama")
    row = family.pack(examples((3, 2), (2, 1)))
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]
    assert row["labels"][0, 5:7].tolist() == [-100, -100]
    assert set(row) == {"input_ids", "position_ids", "labels"}
    assert counts_of(row) == (2, 8, 8, 3)
    padded = family.collate(examples((3, 2), (2, 1)), None, None)
    assert counts_of(padded) == (2, 8, 10, 3)


BLOOM = {"model_type": "bloom", "hidden_size": 16, "n_layer": 1, "n_head": 2,
         "initializer_range": 0.3}  # fmt: skip


def test_a_model_that_joins_packed_examples_is_refused():
    family, model = build(config=BLOOM, attention="eager")
    with pytest.raises(ModelError, match="see each other in BloomForCausalLM"):
        family.check_packing(model, "fp32")
    assert not model.training


MEASURE = """
import gc, sys, torch
from longwatt.jobs.torch_device import memory_status
from tests.unit.models.causal_models import LLAMA_LIKE, TinyTokenizer, build, examples

TinyTokenizer.__len__ = lambda self: 49152
config = {"model_type": "llama", **LLAMA_LIKE, "hidden_size": 64, "max_position_embeddings": 2048}
family, model = build(config=config, seq_len=2048)
batch = family.collate(examples((16, 1024)), None, None)
for p in model.parameters():
    p.grad = torch.zeros_like(p)

def peak(loss):
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    before = memory_status()["VmRSS"]
    loss().backward()
    return memory_status()["VmHWM"] - before

own = peak(lambda: family.loss(model, batch))
print(own, peak(lambda: type(model).forward(model, **batch).loss))
"""


@pytest.mark.long
def test_the_loss_takes_at_most_half_of_the_memory():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    own, plain = map(float, done.stdout.split())
    assert own <= plain / 2
