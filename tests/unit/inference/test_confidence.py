"""The confidence of generated texts is that of the chosen tokens, however they were generated."""

import math

import pytest
import torch

from longwatt.inference import confidence
from longwatt.inference.confidence import GenerationRecord, confidence_facts, with_confidence
from longwatt.models.bigbird_pegasus import BigBirdPegasus
from longwatt.models.led import LED
from longwatt.study.cascades import LEAST, MEAN
from tests.unit.models import causal_models
from tests.unit.models import test_attention_generation as texts

CLOSE = 2e-5
UNEVEN = (23, 1, 40, 9)
OPTIONS = {"max_new_tokens": 7, "num_beams": 1, "length_penalty": None, "early_stopping": None}
WAYS = {
    "greedy": {},
    "no_repeat": {"no_repeat_ngram_size": 2},
    "least": {"min_new_tokens": 4},
    "one": {"max_new_tokens": 1},
    "beams": {"num_beams": 3, "length_penalty": 1.0, "early_stopping": False},
    "early_beams": {"num_beams": 4, "length_penalty": -1.0, "early_stopping": True},
}


def by_whole_passes(model, batch, rows, ends):
    """Log-probabilities of each row's tokens from one pass over gold decoder inputs."""
    found = []
    start = model.generation_config.decoder_start_token_id
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    for place, row in enumerate(rows):
        kept = confidence._cut(row, ends)
        own = {name: value[place : place + 1] for name, value in inputs.items()}
        decoder = torch.tensor([[start, *kept[:-1]]])
        logits = type(model).forward(model, **own, decoder_input_ids=decoder).logits[0]
        logs = logits.log_softmax(-1)
        found.append([float(logs[step, token]) for step, token in enumerate(kept)])
    return found


def predicted(family, model, batch, options):
    how = {"protocol": "generated", "generation": {**OPTIONS, **options}}
    plain = family.predict(model, batch, how)
    rows, logs = with_confidence(family).predict(model, batch, how)
    assert rows == plain, "no token changes"
    assert "_get_logits_processor" not in model.__dict__, "nothing stays behind"
    return rows, logs


def assert_close(found, expected):
    assert [len(one) for one in found] == [len(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=CLOSE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", texts.KINDS)
@torch.no_grad()
def test_both_paths_record_what_a_whole_pass_computes(kind, way, monkeypatch):
    path = texts.random_path(kind)
    family = LED() if kind == "led" else BigBirdPegasus()
    batch = texts.labelled(texts.batch_of(UNEVEN, kind))
    family.fast = path
    rows, fast = predicted(family, path.model, batch, WAYS[way])
    monkeypatch.delitem(path.model.__dict__, "forward")
    family.fast = None
    same, stock = predicted(family, path.model, batch, WAYS[way])
    assert rows == same
    expected = by_whole_passes(path.model, batch, rows, {texts.END})
    assert_close(fast, expected)
    assert_close(stock, expected)


@pytest.mark.parametrize("beams", [1, 3])
@torch.no_grad()
def test_rows_that_end_early_count_their_end_and_nothing_behind_it(beams):
    path = texts.random_path("led")
    family, batch = LED(), texts.labelled(texts.batch_of(UNEVEN, "led"))
    family.fast = path
    path.model.final_logits_bias[0, texts.END] = 4.0
    try:
        how = {"num_beams": beams, "length_penalty": 1.0, "early_stopping": False}
        rows, logs = predicted(family, path.model, batch, how)
        lengths = texts.lengths_of(rows)
        assert len(set(lengths)) > 1, "they end at different times"
        assert [len(one) for one in logs] == lengths
        assert_close(logs, by_whole_passes(path.model, batch, rows, {texts.END}))
    finally:
        path.model.final_logits_bias.zero_()


@pytest.mark.parametrize("way", ["greedy", "beams"])
@torch.no_grad()
def test_padding_and_neighbours_change_no_confidence(way):
    path = texts.random_path("led")
    family = LED()
    family.fast = path
    batch = texts.labelled(texts.batch_of(UNEVEN, "led"))
    _, together = predicted(family, path.model, batch, WAYS[way])
    for row, logs in enumerate(together):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        assert_close(predicted(family, path.model, alone, WAYS[way])[1], [logs])


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("way", ["greedy", "no_repeat", "beams"])
@torch.no_grad()
def test_decoder_only_models_record_their_answers_alone(kind, way):
    family, model = causal_models.build(kind)
    chosen = causal_models.examples(*causal_models.BATCH)
    batch = family.collate(chosen, None, None)
    rows, logs = predicted(family, model, batch, WAYS[way])
    for example, row, found in zip(chosen, rows, logs, strict=True):
        ids = torch.tensor([[*example.input_ids, *row]])
        whole = type(model).forward(model, input_ids=ids).logits[0].log_softmax(-1)
        first = len(example.input_ids) - 1
        expected = [float(whole[first + n, token]) for n, token in enumerate(row)]
        assert found == pytest.approx(expected, abs=CLOSE)


def test_a_token_that_only_a_bound_forced_counts_with_its_raw_probability():
    record = GenerationRecord(1, [9])
    scores = torch.full((1, 10), -5.0)
    scores[0, 3] = 5.0
    record.step(scores, torch.tensor([0]), None)
    (logs,) = record.of([[7]])
    assert logs == pytest.approx([float(scores.log_softmax(-1)[0, 7])])


def test_facts_are_the_mean_and_the_least_and_unknown_where_no_number_is():
    assert confidence_facts([-1.0, -3.0]) == {MEAN: -2.0, LEAST: -3.0}
    unknown = {MEAN: None, LEAST: None}
    assert confidence_facts([math.nan]) == confidence_facts(None) == unknown
    assert confidence_facts([]) == unknown
