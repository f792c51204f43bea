"""Parameters of models, counted without giving them memory."""

import pytest

from longwatt.models import parameter_counts
from longwatt.models.parameter_counts import count_parameters, counted

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
