"""Paths of attention: what families offer, what an entry may choose, and what is in use."""

import pytest
import torch

from longwatt.models import family_names, load_family
from longwatt.models.attention.path import FastPath
from longwatt.models.errors import ModelError
from longwatt.models.family import EAGER, FAST, FLASH, FLEX, SDPA, STOCK, Example, attention_path
from longwatt.models.led import LED
from tests.unit.models.test_families import BART_LIKE, BIGBIRD, KINDS, build, tokenizer

__all__ = ["tokenizer"]  # a fixture
LED_LIKE = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "attention_window": 8, "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 32,
}  # fmt: skip
LIBRARY = (SDPA, EAGER, FLASH, FLEX)
REASON = "this is a test"


def refuse(self, built, path):
    """Have every model need the stock path."""
    return None if path == STOCK else REASON


def test_families_offer_their_default_first():
    offered = {name: load_family(name).attention_paths for name in family_names()}
    assert offered.pop("led") == offered.pop("bigbird_pegasus") == (FAST, STOCK)
    assert offered.pop("causal") == LIBRARY
    assert set(offered.values()) == {(STOCK, *LIBRARY)}


@pytest.mark.parametrize(
    ("family", "entry", "path"),
    [
        ("led", {}, FAST),
        ("bigbird_pegasus", {}, FAST),
        ("led", {"attention": STOCK}, STOCK),
        ("seq2seq", {}, STOCK),
        ("seq2seq", {"attention": FLEX}, FLEX),
        ("causal", {}, SDPA),
        ("early_exit", {"attention": STOCK}, STOCK),
    ],
)
def test_an_entry_chooses_or_has_its_family_s_default(family, entry, path):
    assert attention_path(load_family(family), entry) == path


def test_a_path_that_a_family_lacks_is_refused(tokenizer):
    paths = "stock or sdpa or eager or flash or flex"
    said = f"'fast' is asked for, but the family seq2seq offers {paths}; choose that, or leave the"
    with pytest.raises(ModelError, match=said):
        attention_path(load_family("seq2seq"), {"attention": FAST})
    entry = {"config": {"model_type": "bart", **BART_LIKE}, "attention": FAST}
    with pytest.raises(ModelError, match=said):
        load_family("seq2seq").build(entry, tokenizer, None, 16, 8)


def test_a_stock_model_needs_no_reason(tokenizer):
    family = load_family("led")
    family.build({"config": LED_LIKE, "attention": STOCK}, tokenizer, None, 16, 8)
    assert (family.attention, family.attention_reason) == (STOCK, None)
    assert family.notes({}, 16) == []


@pytest.mark.parametrize(("family", "config"), [("led", LED_LIKE), ("bigbird_pegasus", BIGBIRD)])
def test_a_model_that_needs_the_stock_path_says_why(tokenizer, family, config, monkeypatch):
    monkeypatch.setattr(type(load_family(family)), "_attach", refuse)
    made, model = build(tokenizer, family, config)
    assert (made.attention, made.attention_reason) == (STOCK, REASON)
    assert REASON in made.notes(model.config.to_dict(), 64)


def test_the_path_that_attached_is_in_use(tokenizer, monkeypatch):
    asked = []
    monkeypatch.setattr(LED, "_attach", lambda self, built, path: asked.append(path))
    made, _ = build(tokenizer, "led", LED_LIKE)
    assert (asked, made.attention, made.attention_reason) == ([FAST], FAST, None)


def test_a_family_that_offers_what_it_has_no_code_for_is_named(tokenizer, monkeypatch):
    seq2seq = type(load_family("seq2seq"))
    monkeypatch.setattr(seq2seq, "attention_paths", (FAST, STOCK))
    with pytest.raises(NotImplementedError, match="Seq2Seq offers no fast path"):
        build(tokenizer, "seq2seq", {"model_type": "bart", **BART_LIKE})


@pytest.mark.parametrize(("family", "config"), [("led", LED_LIKE), ("bigbird_pegasus", BIGBIRD)])
def test_dropout_of_attention_weights_needs_the_stock_path(tokenizer, family, config):
    made, _ = build(tokenizer, family, {**config, "attention_dropout": 0.1})
    assert made.attention == STOCK
    assert "attention_dropout is 0.1" in made.attention_reason


@pytest.mark.parametrize(("family", "config"), [("led", LED_LIKE), ("bigbird_pegasus", BIGBIRD)])
def test_the_model_that_takes_the_fast_path_is_transformers_own(tokenizer, family, config):
    """What is saved, and how weights are called, does not hang on the path."""
    fast, model = build(tokenizer, family, config)
    stock = load_family(family)
    entry = {"config": config, "attention": STOCK}
    other = stock.build(entry, tokenizer, None, 64, 8)
    assert (fast.attention, stock.attention) == (FAST, STOCK)
    assert type(model) is type(other)
    assert model.state_dict().keys() == other.state_dict().keys()
    assert "forward" in vars(model)
    assert "forward" not in vars(other)


def test_a_device_that_cannot_take_the_fast_path_is_found_when_a_model_is_placed(
    tokenizer, monkeypatch
):
    family, model = build(tokenizer, "led", LED_LIKE)
    placed = family.place(model, torch.device("cpu"), "bf16")
    assert (placed is model, family.attention) == (True, FAST)
    monkeypatch.setattr(FastPath, "refusal_on", lambda self, device, precision: REASON)
    family.place(model, torch.device("cpu"), "bf16")
    assert (family.attention, family.attention_reason, family.fast) == (STOCK, REASON, None)
    assert "forward" not in vars(model)


def test_batches_that_need_the_stock_path_are_told(tokenizer):
    family, model = build(tokenizer, "led", {**LED_LIKE, "dropout": 0.0})
    batch = family.collate([Example("a", [0, 5, 6, 2], [0, 7, 2], ("x",))], None, None)
    family.loss(model, batch)
    assert (family.attention, family.attention_reason) == (FAST, None)
    batch["global_attention_mask"][:, 1] = 1
    with pytest.warns(UserWarning, match="stock path: other tokens are global"):
        family.loss(model, batch)
    assert family.attention == "fast / stock"
    assert "other tokens are global" in family.notes({}, 16)[0]


def test_a_window_that_transformers_cannot_compute_is_refused(tokenizer):
    with pytest.raises(ModelError, match=r"attention_window .* whole number from 4, but is 2"):
        build(tokenizer, "led", {**LED_LIKE, "attention_window": [8, 2], "encoder_layers": 2})


def test_a_model_built_earlier_is_still_predicted(tokenizer):
    """A family keeps the fast path of the model built last; another's predictions are stock's."""
    family, first = build(tokenizer, "led", LED_LIKE)
    batch = family.collate([Example("a", [0, 5, 6, 2], [0, 7, 2], ("x",))], None, None)
    how = {"protocol": "teacher_forced", "generation": {"max_new_tokens": 2}}
    expected = family.predict(first, batch, how)
    family.build({"config": LED_LIKE}, tokenizer, None, 64, 8)
    assert family.predict(first, batch, how) == expected


BART = {"model_type": "bart", **BART_LIKE}
LONGT5 = {"model_type": "longt5", **KINDS["longt5"]}
CPU = torch.device("cpu")


@pytest.mark.parametrize("path", [SDPA, EAGER])
def test_the_library_s_path_that_is_asked_for_is_in_use(tokenizer, path):
    family, model = build(tokenizer, "seq2seq", BART, attention=path)
    family.place(model, CPU, "fp32")
    assert (family.attention, family.attention_reason) == (path, None)
    assert model.config._attn_implementation == path


def test_stock_is_what_transformers_would_take(tokenizer):
    family, model = build(tokenizer, "seq2seq", LONGT5)
    assert (family.attention, model.config._attn_implementation) == (STOCK, "eager")


@pytest.mark.parametrize("path", [SDPA, FLASH, FLEX])
def test_a_path_that_a_model_s_class_lacks_is_refused(tokenizer, path):
    said = f"`attention: {path}` .* LongT5ForConditionalGeneration .* has only eager; choose one"
    with pytest.raises(ModelError, match=said):
        build(tokenizer, "seq2seq", LONGT5, attention=path)


@pytest.mark.parametrize(
    ("path", "device", "precision", "said"),
    [
        (FLEX, "cpu", "fp32", "torch's flex_attention has no backward pass on a CPU"),
        (FLASH, "cpu", "bf16", "flash attention needs a GPU, and this is a CPU"),
        (FLASH, "cuda", "tf32", "computes in bf16 or fp16, and the budget's precision is tf32"),
        (FLASH, "cuda", "bf16", "the package flash_attn is not installed"),
    ],
)
def test_a_device_that_lacks_a_path_is_refused(tokenizer, path, device, precision, said):
    family, model = build(tokenizer, "seq2seq", BART, attention=path)
    model.to = lambda device: model  # there need not be such a device here
    with pytest.raises(ModelError, match=f"`attention: {path}` is asked for, but .*{said}"):
        family.place(model, torch.device(device), precision)
    assert model.config._attn_implementation == "sdpa"


def test_a_path_is_set_on_the_device_that_has_it(tokenizer):
    family, model = build(tokenizer, "seq2seq", BART, attention=FLEX)
    model.to = lambda device: model
    family.place(model, torch.device("cuda"), "fp32")
    assert (family.attention, model.config._attn_implementation) == (FLEX, "flex_attention")


def test_what_transformers_does_not_set_is_refused(tokenizer, monkeypatch):
    family, model = build(tokenizer, "seq2seq", BART, attention=FLEX)
    model.to = lambda device: model
    monkeypatch.setattr(model, "set_attn_implementation", lambda name: None)
    with pytest.raises(ModelError, match=r"BartForConditionalGeneration .* cannot change its"):
        family.place(model, torch.device("cuda"), "fp32")
