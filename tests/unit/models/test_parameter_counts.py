"""Parameters of models, counted without giving them memory."""

import peft
import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from longwatt.models import parameter_counts
from longwatt.models.parameter_counts import count_or_reason, count_parameters, counted
from longwatt.plan.causal_shapes import SMOLLM2_135M

LED_BASE = {"d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072}
LED_BASE["decoder_ffn_dim"] = 3072
KINDS = [
    {"model_type": kind} for kind in ("bert", "roberta", "distilbert", "electra", "modernbert")
]


@pytest.mark.parametrize(
    ("family", "config", "published"),
    [
        ("led", LED_BASE, 161.84e6),
        ("led", {"vocab_size": 50265, "kind": "of a tokenizer"}, 459.80e6),
        ("bigbird_pegasus", {}, 576.89e6),
        (
            "seq2seq",
            {"model_type": "t5", "vocab_size": 32128},
            60.51e6,
        ),  # arXiv 1910.10683: t5-small
        ("causal", {"model_type": "gpt2"}, 124.44e6),
        ("causal", SMOLLM2_135M, 134.52e6),
        ("early_exit", {"model_type": "bert"}, 109.48e6),
        ("early_exit", {"model_type": "roberta", "vocab_size": 50265}, 124.65e6),
    ],
)
def test_whole_models_have_their_published_parameters(family, config, published):
    assert count_parameters(family, config, None, 3) == pytest.approx(published, abs=0.01e6)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config["model_type"])
def test_layers_above_the_last_exit_are_not_counted_and_classifiers_are(config):
    one, two, both = (
        count_parameters("early_exit", config, {"layers": layers}, 4)
        for layers in ([0], [1], [0, 1])
    )
    width = 256 if config["model_type"] == "electra" else 768
    assert both == two + 4 * (width + 1) + 2, "a classifier, and two weights of its sum"
    assert one < two < count_parameters("early_exit", config, {"layers": [3]}, 4)


def test_a_trained_model_with_exits_says_all_of_itself():
    bert = {"model_type": "bert"}
    trained = {"model_type": "longwatt_early_exit", "layers": [1], "labels": ["a", "b"]}
    trained["encoder"] = bert
    assert count_parameters("early_exit", trained, None, 9) == count_parameters(
        "early_exit", bert, {"layers": [1]}, 2
    )


def test_a_process_of_its_own_counts_in_order_and_says_what_cannot_be_built():
    wanted = {"family": "seq2seq", "config": {"model_type": "bart"}, "exits": None, "labels": 3}
    found = counted([wanted, {**wanted, "config": {"model_type": "nonsense"}}, wanted])
    assert found[0] == found[2] == count_parameters(**wanted)
    assert found[1].startswith("ValueError") and len(found[1]) <= 200


def test_a_plan_outlives_the_process_that_counts(monkeypatch):
    monkeypatch.setattr(parameter_counts.sys, "executable", "/bin/false")
    model = {"family": "led", "config": {}, "exits": None, "labels": 2}
    assert counted([model, model]) == ["the process that counts ended with 1"] * 2


TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80,
    "vocab_size": 120,
}  # fmt: skip
ADAPTED = [
    ("llama", TINY, "CAUSAL_LM"),
    ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 120}, "CAUSAL_LM"),
    ("phi", TINY, "CAUSAL_LM"),
    ("bart", {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1}, "SEQ_2_SEQ_LM"),
]


SOME = {"gpt2": ["c_attn"], "phi": ["q_proj", "fc1"]}


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("which", ["all", "some"])
@pytest.mark.parametrize(("model_type", "config", "task"), ADAPTED, ids=lambda one: str(one)[:5])
def test_adapters_have_the_parameters_that_peft_gives_them(model_type, config, task, which, kind):
    targets = None if which == "all" else SOME.get(model_type, ["q_proj", "k_proj"])
    load = AutoModelForCausalLM if task == "CAUSAL_LM" else AutoModelForSeq2SeqLM
    model = load.from_config(AutoConfig.for_model(model_type, **config))
    asked = {"rank": 3, "kind": kind, "target_modules": targets}
    wanted = peft.LoraConfig(
        r=3, use_dora=kind == "dora", target_modules=targets or "all-linear", task_type=task
    )
    made, _ = peft.get_peft_model(model, wanted).get_nb_trainable_parameters()
    family = "causal" if task == "CAUSAL_LM" else "seq2seq"
    known = {"model_type": model_type, **config}
    assert count_parameters(family, known, None, 2, asked) == made


def test_classifiers_at_exits_are_trained_beside_adapters():
    config = {"model_type": "bert", **TINY}
    exits, lora = {"layers": [0, 1]}, {"rank": 2, "kind": "lora", "target_modules": ["query"]}
    pooler, classifiers = 32 * 33, 2 * 3 * 33 + 3
    adapters = 2 * 2 * (32 + 32)
    assert count_parameters("early_exit", config, exits, 3, lora) == adapters + pooler + classifiers


def test_targets_that_match_nothing_are_a_reason():
    model = {"family": "causal", "config": {"model_type": "llama", **TINY}, "exits": None}
    lora = {"rank": 2, "target_modules": ["c_attn"]}
    reason = count_or_reason({**model, "labels": 2, "lora": lora})
    assert reason.startswith("ModelError: lora.target_modules: 'c_attn' matches no linear layer")


def test_a_router_is_no_layer_that_adapters_are_counted_for():
    shape = {**TINY, "num_key_value_heads": 4, "num_local_experts": 4}
    config, lora = {"model_type": "phimoe", **shape}, {"rank": 1, "target_modules": None}
    assert count_parameters("causal", config, None, 2, lora) == 4 * 2 * (32 + 32)
