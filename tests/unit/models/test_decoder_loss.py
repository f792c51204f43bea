"""The loss of any encoder-decoder: equal to transformers' own, for less memory."""

import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from longwatt.models.losses import decoder_loss
from tests.unit.models.test_causal_loss import assert_equal, stock_loss, with_gradients
from tests.unit.models.test_families import BART_LIKE, T5_LIKE

KINDS = {
    "bart": BART_LIKE, "t5": T5_LIKE, "t5_untied": {**T5_LIKE, "tie_word_embeddings": False},
    "pegasus_x": {**BART_LIKE, "block_size": 16, "num_global_tokens": 4}, "marian": BART_LIKE,
    "longt5": {**T5_LIKE, "local_radius": 8}, "mbart": BART_LIKE, "umt5": T5_LIKE,
}  # fmt: skip
SMALL = {"vocab_size": 101, "dropout": 0.0, "dropout_rate": 0.0, "pad_token_id": 1,
         "eos_token_id": 2, "decoder_start_token_id": 1}  # fmt: skip


def build(name: str):
    torch.manual_seed(0)
    kind = name.removesuffix("_untied")
    return (
        AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **KINDS[name]}))
        .train()
        .double()
    )


def batch() -> dict:
    source = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 101, (3, 40), generator=source)
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    labels = torch.randint(3, 101, (3, 9), generator=source)
    labels[0, 4:], labels[2, 7:] = -100, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("name", KINDS)
def test_loss_and_all_gradients_are_those_of_transformers(name, monkeypatch):
    monkeypatch.setattr("longwatt.models.attention.loss.CHUNK", 400)  # three labels at a time
    model, given = build(name), batch()
    expected = with_gradients(model, stock_loss(model, given))
    assert decoder_loss.attach_decoder_loss(model) and model.training
    assert_equal(with_gradients(model, model(**given).loss), expected)
    assert model(**given).logits is None, "its own forward would have returned them"


def test_a_bias_of_the_logits_counts():
    model, given = build("bart"), batch()
    model.final_logits_bias += torch.randn(1, 101)
    assert decoder_loss.attach_decoder_loss(model)
    assert float(model(**given).loss) == pytest.approx(float(stock_loss(model, given)), rel=1e-6)


def test_logits_are_there_for_whoever_asks():
    model, given = build("t5"), batch()
    assert decoder_loss.attach_decoder_loss(model)
    del given["labels"]
    started = torch.tensor([[1]] * 3)
    assert model(**given, decoder_input_ids=started).logits.shape == (3, 1, 101)


def other_loss(kind):
    class Other(kind):
        def forward(self, *args, **kwargs):
            found = super().forward(*args, **kwargs)
            found.loss = None if found.loss is None else 2 * found.loss
            return found

    return Other


def test_a_model_with_another_loss_keeps_its_own():
    model = build("bart")
    model.__class__ = other_loss(type(model))
    assert not decoder_loss.attach_decoder_loss(model)
    assert model(**batch()).logits.shape == (3, 9, 101)


def test_a_head_that_has_adapters_since_is_called():
    model, given = build("t5_untied"), batch()
    assert decoder_loss.attach_decoder_loss(model)
    of_head = LoraConfig(r=4, init_lora_weights=False, target_modules=["lm_head"])
    adapted = get_peft_model(model, of_head)
    expected = with_gradients(adapted, stock_loss(model, given))
    assert expected[1] and all("lm_head" in name for name in expected[1])
    assert_equal(with_gradients(adapted, adapted(**given).loss), expected)


PEAK = """
import gc, torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM
from longwatt.jobs.torch_device import memory_status
from longwatt.models.losses import decoder_loss

sizes = dict(d_model=64, d_kv=16, d_ff=64, num_layers=1, num_heads=4, vocab_size=49152)
kind = AutoConfig.for_model("t5", **sizes, pad_token_id=0, decoder_start_token_id=0)
model = AutoModelForSeq2SeqLM.from_config(kind)
ids = torch.randint(3, 49152, (1, 1024))
batch = dict(input_ids=ids[:, :64], attention_mask=torch.ones_like(ids[:, :64]), labels=ids)
for p in model.parameters():
    p.grad = torch.zeros_like(p)

def peak():
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    before = memory_status()["VmRSS"]
    model(**batch).loss.backward()
    return memory_status()["VmHWM"] - before

stock = peak()
assert decoder_loss.attach_decoder_loss(model)
print(peak(), stock)
"""


def test_the_loss_takes_at_most_half_of_the_memory():
    done = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, timeout=300
    )
    chunked, stock = map(int, done.stdout.split())
    assert 0 < chunked < 0.5 * stock
