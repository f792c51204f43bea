"""Operations of models against torch's own counter, which counts all pairs that attention makes.

The counter knows no fused attention on a CPU, so models compute theirs step by step (eager).
"""

from functools import partial

import peft
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    DynamicCache,
)

from longwatt.plan.causal_shapes import causal_shape
from longwatt.plan.model_shapes import shape_of

WITHIN = 0.05  # of the counter
PROMPT, ANSWER, ROWS = 40, 8, 2
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80,
    "vocab_size": 120, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
TOKENS = {key: SIZES[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
CONFIGS = {
    "llama": {**SIZES, "num_key_value_heads": 2},
    "qwen2": {**SIZES, "num_key_value_heads": 1},
    "qwen3": {**SIZES, "num_key_value_heads": 2, "head_dim": 16},
    "mistral": {**SIZES, "num_key_value_heads": 2, "sliding_window": 8},
    "gemma": {**SIZES, "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True},
    "phi": SIZES,
    "phi3": {**SIZES, "num_key_value_heads": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, **TOKENS},
}
# What an adapter is asked for by name, in the terms of each kind.
SOME = {"gpt2": ["c_attn"], "phi3": ["qkv_proj"]}


def built(kind: str, load=AutoModelForCausalLM, config=None):
    """A tiny model without dropout, whose attention the counter sees."""
    config = AutoConfig.for_model(kind, **(config or CONFIGS[kind]))
    for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop", "dropout", "hidden_dropout_prob"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return load.from_config(config, attn_implementation="eager")


def adapted(model, kind, lora):
    """The model with adapters as peft makes them, in all linear layers but the output's."""
    wanted = peft.LoraConfig(
        r=lora["rank"],
        lora_dropout=lora.get("dropout", 0.0),
        use_dora=lora.get("kind") == "dora",
        target_modules=lora.get("target_modules") or "all-linear",
        task_type=kind,
    )
    return peft.get_peft_model(model, wanted)


def counted_flops(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def step(model):
    """Train on answers alone: no other logits are made."""
    ids = torch.randint(3, 100, (ROWS, PROMPT + ANSWER))
    whole = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    hidden = whole.base_model(ids, use_cache=False).last_hidden_state
    logits = whole.get_output_embeddings()(hidden[:, PROMPT - 1 : -1])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, PROMPT:].flatten()).backward()


def training(shape, frozen: bool, recomputed: bool = False) -> float:
    return shape.teaching(ANSWER, PROMPT).times(ROWS).training(frozen, recomputed)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_training_step_of_all_weights(kind):
    shape = causal_shape({"model_type": kind, **CONFIGS[kind]})
    counted = counted_flops(partial(step, built(kind)))
    assert training(shape, frozen=False) == pytest.approx(counted, rel=WITHIN)


LORAS = {
    "all": {"rank": 4},
    "some": {"rank": 8, "target_modules": ["q_proj", "v_proj"]},
    "dora": {"rank": 2, "kind": "dora"},
    "dora with dropout": {"rank": 2, "kind": "dora", "dropout": 0.1},
}


# Where some matrices have no adapter, the first layer's backward pass stops sooner than is counted,
# as a real model's many layers hide.
DEEP = {"num_hidden_layers": 6, "n_layer": 6}


# peft multiplies GPT-2's transposed matrices once more where DoRA's inputs are dropped out.
ADAPTED = [
    (kind, asked)
    for kind in CONFIGS
    for asked in LORAS
    if (kind, asked) != ("gpt2", "dora with dropout")
]


@pytest.mark.parametrize(("kind", "asked"), ADAPTED)
def test_a_training_step_of_adapters(kind, asked):
    lora, config = dict(LORAS[asked]), dict(CONFIGS[kind])
    if "target_modules" in lora:
        lora["target_modules"] = SOME.get(kind, lora["target_modules"])
        config |= {key: value for key, value in DEEP.items() if key in config}
    shape = causal_shape({"model_type": kind, **config}, lora=lora)
    model = adapted(built(kind, config=config), "CAUSAL_LM", lora)
    counted = counted_flops(partial(step, model))
    assert training(shape, frozen=True) == pytest.approx(counted, rel=WITHIN)


@pytest.mark.parametrize("kind", CONFIGS)
def test_reading_a_prompt_and_generating_with_a_cache(kind):
    shape = causal_shape({"model_type": kind, **CONFIGS[kind], "sliding_window": None})
    ids = torch.randint(3, 100, (ROWS, PROMPT))

    @torch.no_grad()
    def generate():
        model, cache = built(kind, config={**CONFIGS[kind], "sliding_window": None}), DynamicCache()
        given = ids
        for _ in range(ANSWER):
            logits = model(given, past_key_values=cache, logits_to_keep=1).logits
            given = logits[:, -1:].argmax(-1)

    wanted = ROWS * (shape.encode(PROMPT) + shape.decode(ANSWER, PROMPT))
    assert wanted == pytest.approx(counted_flops(generate), rel=WITHIN)


def test_checkpointed_layers_run_forward_twice():
    model = built("llama").train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    shape = causal_shape({"model_type": "llama", **CONFIGS["llama"]})
    counted = counted_flops(partial(step, model))
    assert training(shape, frozen=False, recomputed=True) == pytest.approx(counted, rel=WITHIN)


BART = {
    "d_model": 32, "encoder_layers": 6, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96,
    "decoder_start_token_id": 2, "forced_eos_token_id": None, **TOKENS,
}  # fmt: skip


@pytest.mark.parametrize(
    "lora", [None, {"rank": 4}, {"rank": 4, "target_modules": ["q_proj", "v_proj"]}]
)
def test_encoder_decoders_with_and_without_adapters(lora):
    model = built("bart", AutoModelForSeq2SeqLM, BART)
    if lora:
        model = adapted(model, "SEQ_2_SEQ_LM", lora)
    ids, labels = torch.randint(3, 100, (ROWS, PROMPT)), torch.randint(3, 100, (ROWS, ANSWER))
    counted = counted_flops(lambda: model(input_ids=ids, labels=labels).loss.backward())
    shape = shape_of("seq2seq", BART, lora=lora)
    assert training(shape, frozen=bool(lora)) == pytest.approx(counted, rel=WITHIN)


@pytest.mark.parametrize("lora", [None, {"rank": 4}, {"rank": 4, "target_modules": ["query"]}])
def test_encoders_with_and_without_adapters(lora):
    sizes = {**SIZES, "num_hidden_layers": 6}
    model = built("bert", partial_encoder(), sizes)
    if lora:
        model = adapted(model, None, lora)
    ids = torch.randint(3, 100, (ROWS, PROMPT))
    counted = counted_flops(lambda: model(input_ids=ids).last_hidden_state.sum().backward())
    shape = shape_of("early_exit", {"model_type": "bert", **sizes}, lora=lora)
    wanted = shape.teaching(1, PROMPT).times(ROWS).training(bool(lora), recomputed=False)
    assert wanted == pytest.approx(counted, rel=WITHIN)


def partial_encoder():
    """BERT without its pooler, as longwatt builds it."""

    class Encoder(AutoModel):
        @classmethod
        def from_config(cls, config, **how):
            return AutoModel.from_config(config, add_pooling_layer=False, **how)

    return Encoder


def test_paths_that_skip_hidden_pairs_make_half_of_them_or_those_of_the_window():
    config = {"model_type": "mistral", **CONFIGS["mistral"]}
    whole, skipping = (causal_shape(config, path) for path in ("sdpa", "flex"))
    pairs = sum(min(place + 1, 8) for place in range(48))
    ratio = skipping.teaching(8, 40).attention / whole.teaching(8, 40).attention
    assert ratio == pytest.approx(pairs / 48**2)
    free = causal_shape({**config, "sliding_window": None}, "flash").teaching(8, 40).attention
    assert free / whole.teaching(8, 40).attention == pytest.approx(49 / 2 / 48)
