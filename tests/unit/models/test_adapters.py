"""Adapters on tiny models of every kind: what is trained, kept, read again and merged."""

import json

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartModel,
    BigBirdPegasusConfig,
    BigBirdPegasusForConditionalGeneration,
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PhimoeConfig,
    PhimoeForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from longwatt.models import adapters
from longwatt.models.__main__ import merge_folders
from longwatt.models.errors import ModelError
from tests.unit.models.attention_models import led_model

WORDS = 60
LORA = {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0, "target_modules": None}
BASE = {"checkpoint": "small-12345678", "sha256": {"model.safetensors": "0"}}


def llama():
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2))


def falcon():
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return FalconForCausalLM(FalconConfig(vocab_size=WORDS, **shape))


def mixture():
    """Its router is a linear layer that returns more than a map does."""
    config = PhimoeConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=4,
    )  # fmt: skip
    return PhimoeForCausalLM(config)


def experts():
    """A mixture whose experts peft adapts as they are: two weights of one part."""
    config = Qwen3NextConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_experts=2, num_experts_per_tok=1,
        layer_types=["full_attention"],
        moe_intermediate_size=8, shared_expert_intermediate_size=8, linear_num_value_heads=2,
        linear_num_key_heads=1, linear_key_head_dim=8, linear_value_head_dim=8,
    )  # fmt: skip
    return Qwen3NextForCausalLM(config)


def t5():
    config = T5Config(
        vocab_size=WORDS, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def bigbird():
    config = BigBirdPegasusConfig(
        vocab_size=WORDS, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=16,
        attention_type="original_full", max_position_embeddings=64,
    )  # fmt: skip
    return BigBirdPegasusForConditionalGeneration(config)


def led():
    model = led_model()
    del model.forward  # the stock path
    return model


MODELS = {
    "llama": llama, "gpt2": gpt2, "falcon": falcon, "t5": t5, "bigbird": bigbird, "led": led,
    "mixture": mixture, "experts": experts,
}  # fmt: skip
# Layers with adapters, and how many adapters there are.
LAYERS = {
    "llama": ({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, 14),
    "gpt2": ({"c_attn", "c_proj", "c_fc"}, 8),
    "t5": ({"q", "k", "v", "o", "wi", "wo"}, 32),
    "falcon": ({"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}, 8),
    "mixture": ({"q_proj", "k_proj", "v_proj", "o_proj"}, 8),
}


def made(name: str):
    torch.manual_seed(0)
    return MODELS[name]().eval()


def batch(model) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, WORDS, (2, 12), generator=torch.Generator().manual_seed(1))
    found = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    if model.config.model_type == "led":
        found["global_attention_mask"] = (torch.arange(12) == 0).long().expand(2, 12)
    return found


def trained(name: str, **changes):
    """A model with adapters after some steps, and its weights before them."""
    model = made(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapters.adapt(model, {"lora": {**LORA, **changes}})
    chosen = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(chosen, lr=1e-2)
    for _ in range(3):
        model(**batch(model)).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model, before


def outputs(model) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch(model)).logits


@pytest.mark.parametrize("name", MODELS)
def test_only_adapters_are_trained_and_every_one_of_them(name):
    model, before = trained(name)
    for key, value in model.state_dict().items():
        if "lora_" not in key:
            assert torch.equal(value, before[key.replace(".base_layer", "")]), key
    moved = [p for key, p in model.named_parameters() if "lora_B" in key]
    assert moved and all(p.abs().max() > 0 for p in moved), "each begins with zeros"
    assert not adapters.is_adapted(made(name)) and adapters.is_adapted(model)


@pytest.mark.parametrize("name", LAYERS)
def test_all_linear_layers_but_the_outputs_have_adapters(name):
    model, (ends, count) = made(name), LAYERS[name]
    adapters.adapt(model, {"lora": LORA})
    assert set(model.peft_config["default"].target_modules) == ends
    assert (
        sum(key.endswith("lora_A.default.weight") for key, _ in model.named_parameters()) == count
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "lora") for name in MODELS), ("gpt2", "dora"), ("t5", "dora"), ("llama", "rslora")],
)
def test_adapters_are_read_again_beside_their_base_and_merged_into_it(name, kind, tmp_path):
    model, before = trained(name, kind=kind)
    said = outputs(model)
    assert not torch.allclose(said, outputs(made(name)), atol=1e-3), "training changed it"
    adapters.write_adapters(model, tmp_path, BASE)
    again = made(name)
    adapters.adapt(again, {"adapters": str(tmp_path)})
    torch.testing.assert_close(outputs(again.eval()), said, rtol=0, atol=1e-5)
    beside = peft.PeftModel.from_pretrained(made(name), str(tmp_path))
    torch.testing.assert_close(outputs(beside), said, rtol=0, atol=1e-5)  # others read it too
    adapters.merge_adapters(again)
    assert again.state_dict().keys() == before.keys()
    assert not adapters.is_adapted(again) and not hasattr(again, "peft_config")
    torch.testing.assert_close(outputs(again), said, rtol=1e-4, atol=1e-5)


def test_kinds_are_those_of_peft():
    found = {}
    for kind in ("lora", "dora", "rslora"):
        model = made("llama")
        adapters.adapt(model, {"lora": {**LORA, "kind": kind, "dropout": 0.25}})
        config, layer = model.peft_config["default"], model.model.layers[0].self_attn.q_proj
        assert layer.lora_dropout["default"].p == 0.25 and config.r == 4
        found[kind] = (config.use_dora, config.use_rslora, layer.scaling["default"])
    assert found == {"lora": (0, 0, 2), "dora": (1, 0, 2), "rslora": (0, 1, 4)}


def test_saved_adapters_are_small_neutral_and_the_same_every_time(tmp_path):
    model, _ = trained("llama")
    hub = {**BASE, "repository": "someone/small", "revision": "f" * 40}
    adapters.write_adapters(model, tmp_path / "a", hub)
    adapters.write_adapters(trained("llama")[0], tmp_path / "b", BASE)
    held = load_file(tmp_path / "a/adapter_model.safetensors")
    assert (
        sum(t.numel() for t in held.values())
        == adapters.parameter_counts(model)["trainable_parameters"]
    )
    other = load_file(tmp_path / "b/adapter_model.safetensors")
    assert all(torch.equal(held[name], other[name]) for name in held)
    one, two = (json.loads((tmp_path / n / "adapter_config.json").read_text()) for n in "ab")
    assert (one["base_model_name_or_path"], one["revision"]) == ("someone/small", "f" * 40)
    assert two["base_model_name_or_path"] == "small-12345678"
    assert one["target_modules"] == sorted(LAYERS["llama"][0])
    assert json.loads((tmp_path / "a/base.json").read_text()) == hub
    assert one["task_type"] == "CAUSAL_LM"
    assert str(tmp_path) not in (tmp_path / "a/adapter_config.json").read_text()


def test_what_is_trained_is_kept_and_taken_up_again(tmp_path):
    model, _ = trained("t5", kind="dora")
    adapters.keep_trained(model, tmp_path)
    held = load_file(tmp_path / "trained.safetensors")
    assert held.keys() == {key for key, p in model.named_parameters() if p.requires_grad}
    again = made("t5")
    adapters.adapt(again, {"lora": {**LORA, "kind": "dora"}})
    adapters.take_trained(again, tmp_path)
    assert torch.equal(outputs(again.eval()), outputs(model.eval()))


def test_parameters_are_the_bases_and_what_is_trained_is_counted_apart():
    model = made("llama")
    whole = sum(p.numel() for p in model.parameters())
    counted = {"parameters": whole, "trainable_parameters": whole}
    assert adapters.parameter_counts(model) == counted
    adapters.adapt(model, {"lora": {**LORA, "target_modules": ["q_proj", "self_attn.o_proj"]}})
    counted = {"parameters": whole, "trainable_parameters": 2 * 2 * 4 * (16 + 16)}
    assert adapters.parameter_counts(model) == counted


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (
            ["q_prj"],
            r"'q_prj' matches no linear layer .*did you mean 'q_proj'.*there are down_proj",
        ),
        (["q_proj", "lm_head"], r"'lm_head' matches no linear layer .*the output's layer has no"),
        (["proj"], r"'proj' matches no linear layer"),
        (["embed_tokens"], r"'embed_tokens' matches no linear layer"),
    ],
)
def test_target_modules_that_match_nothing_are_refused(targets, said):
    with pytest.raises(ModelError, match=said):
        adapters.adapt(made("llama"), {"lora": {**LORA, "target_modules": targets}})


def test_layers_that_peft_refuses_are_refused_with_its_reason():
    config = MambaConfig(vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(ModelError, match=r"'out_proj' is incompatible .*lora\.target_modules"):
        adapters.adapt(MambaForCausalLM(config), {"lora": LORA})


def test_adapters_name_the_class_of_their_model_not_the_base_s(tmp_path):
    """Some checkpoints hold, and name, the model without its output layer."""
    sizes = {
        f"{part}_{size}": number
        for part in ("encoder", "decoder")
        for size, number in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
    }
    config = BartConfig(vocab_size=WORDS, d_model=16, max_position_embeddings=32, **sizes)
    torch.manual_seed(0)
    BartModel(config).save_pretrained(tmp_path / "base")
    (tmp_path / "base/model.json").write_text("{}")
    model = BartForConditionalGeneration.from_pretrained(tmp_path / "base")
    adapters.adapt(model, {"lora": LORA})
    adapters.write_adapters(model, tmp_path / "own", {**BASE, "sha256": {}})
    merge_folders(tmp_path / "own", tmp_path / "base", tmp_path / "whole")
    merged = json.loads((tmp_path / "whole/config.json").read_text())
    assert merged["architectures"] == ["BartForConditionalGeneration"]


def test_adapters_of_another_model_are_refused(tmp_path):
    model, _ = trained("llama")
    adapters.write_adapters(model, tmp_path, BASE)
    deeper = LlamaConfig(**{**model.config.to_dict(), "num_hidden_layers": 3})
    with pytest.raises(ModelError, match=r"adapters of another model: .*layers\.2"):
        adapters.adapt(LlamaForCausalLM(deeper), {"adapters": str(tmp_path)})


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_activation_checkpointing_changes_no_gradient(name):
    found = []
    for recompute in (False, True):
        model = made(name).train()
        model.config.dropout_rate = 0
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        torch.manual_seed(3)
        adapters.adapt(model, {"lora": LORA})
        if recompute:
            model.gradient_checkpointing_enable()
        model(**batch(model)).loss.backward()
        found.append({key: p.grad for key, p in model.named_parameters() if "lora_B" in key})
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[1][key], gradient)


def test_an_adaptation_has_a_name():
    assert adapters.adaptation(None) == "full"
    assert adapters.adaptation({**LORA, "kind": "rslora"}) == "rslora r4"
