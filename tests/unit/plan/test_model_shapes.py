"""Shapes of encoders with exits, and what is known of labelled data before they are here."""

import pytest

from longwatt.plan.data_sizes import ACLSUM_SENTENCES, UNKNOWN_LABELLED, data_of
from longwatt.plan.model_shapes import BERT_LARGE, Shape, shape_of

PAPER = {"layers": [0, 4, 12, 23]}


def test_no_more_is_built_than_the_highest_exit_needs():
    whole, low = (shape_of("early_exit", {}, exits) for exits in (PAPER, {"layers": [4]}))
    wanted = (1024, 24, 4096, (0, 4, 12, 23))
    assert (whole.d_model, whole.encoder_layers, whole.encoder_ffn, whole.exits) == wanted
    assert low.encoder_layers == 5 and low.encode(128) / whole.encode(128) == pytest.approx(5 / 24)
    assert shape_of("early_exit", {"model_type": "bert", **BERT_LARGE}).encoder_layers == 24
    assert whole.decode(100, 500) == 0


@pytest.mark.parametrize(
    ("config", "known"),
    [
        ({"model_type": "distilbert"}, (768, 6, 3072, 30522)),
        (
            {"model_type": "distilbert", "dim": 32, "n_layers": 2, "hidden_dim": 64},
            (32, 2, 64, 30522),
        ),
        ({"model_type": "roberta", "num_hidden_layers": 3}, (768, 3, 3072, 50265)),
        (
            {"model_type": "modernbert"},
            (768, 22, 1728, 50368),
        ),  # three matrices of 1,152 count as two of 1,728
        ({"model_type": "unheard_of", "hidden_size": 96}, (96, 24, 4096, 30522)),
    ],
)
def test_encoders_have_other_names_for_the_same_sizes(config, known):
    shape = shape_of("early_exit", config)
    assert (shape.d_model, shape.encoder_layers, shape.encoder_ffn, shape.vocabulary) == known


def test_where_examples_leave_is_assumed_half_way():
    shape = shape_of("early_exit", {}, PAPER)
    assert shape.depth(None) == 1 and shape.depth({"threshold": 0.9}) == pytest.approx(
        (1 + 24) / 2 / 24
    )
    assert shape.depth({"patience": 2}) == pytest.approx(
        (5 + 24) / 2 / 24
    )  # two classifiers must have agreed
    assert shape.depth({"patience": 9}) == 1
    assert shape_of("early_exit", {}, {"layers": [23]}).depth({"threshold": 0.9}) == 1
    assert Shape().depth({"threshold": 0.9}) == 1


def test_labelled_data_before_they_are_here():
    assert data_of("aclsum_sentences", {}, {}, labelled=True) == ACLSUM_SENTENCES
    assert data_of("labelled", {"files": {}}, {}, labelled=True) == UNKNOWN_LABELLED
    held_out = {"split": "validation", "from": "train", "examples": 5000}
    found = data_of(
        "labelled", {"repository": "fancyzhx/ag_news", "held_out": held_out}, {}, labelled=True
    )
    assert found.rows == {"train": 115000, "validation": 5000, "test": 7600}
