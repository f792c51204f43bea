"""Forecast memory of trainings: its parts, how it grows, and its error on measured cells."""

from dataclasses import asdict

import pytest

from longwatt.disk_space import GIB
from longwatt.plan.causal_shapes import causal_shape
from longwatt.plan.data_sizes import Data
from longwatt.plan.memory import LIBRARIES_GIB, LOSS_CHUNK, memory_miss, training_memory
from longwatt.plan.model_shapes import Shape

DATA = Data({"train": 100}, words_in=100_000.0, words_out=50.0)
COUNTS = (10_000_000, 10_000_000)
CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 50_000}
CAUSAL = causal_shape({**CONFIG, "num_attention_heads": 4, "intermediate_size": 128})
LED = Shape(d_model=64, encoder_layers=2, decoder_layers=2, encoder_ffn=128, decoder_ffn=128)


def chosen(batch=2, length=512, checkpointing=False, precision="fp32", gpus=1) -> dict:
    training = {"activation_checkpointing": checkpointing, "padding": "longest"}
    budget = {"per_device_batch_size": batch, "precision": precision, "gpus": gpus}
    training["max_target_tokens"] = 32
    return {"seq_len": length, "training": training, "budget": budget}


def memory(shape=CAUSAL, counts=COUNTS, path="sdpa", **settings):
    return training_memory(chosen(**settings), shape, DATA, counts, path)


def test_parts_add_up():
    found = memory(gpus=0)
    assert found.total == pytest.approx(sum(asdict(found).values()))
    assert found.weights == found.gradients == pytest.approx(COUNTS[0] * 4 / GIB)
    assert found.optimiser == 2 * found.gradients
    assert found.libraries == LIBRARIES_GIB and memory().libraries == 0


def test_adapters_have_less_of_gradients_and_optimiser_but_all_weights():
    whole, adapted = memory(), memory(counts=(COUNTS[0], 1000))
    assert adapted.weights == whole.weights
    assert adapted.optimiser == pytest.approx(whole.optimiser / 10_000)
    assert adapted.gradients < whole.gradients


@pytest.mark.parametrize("shape", [CAUSAL, LED])
def test_checkpointing_keeps_inputs_of_layers_and_one_layer(shape):
    assert memory(shape, checkpointing=True).activations < memory(shape).activations
    layer = memory(CAUSAL).activations / 4
    inputs = 4 * 2 * (512 + 32) * 64 * 4 / GIB
    assert memory(CAUSAL, checkpointing=True).activations == pytest.approx(layer + inputs)


@pytest.mark.parametrize("shape", [CAUSAL, LED])
def test_activations_grow_with_batch_and_length(shape):
    one = memory(shape, batch=1).activations
    assert memory(shape, batch=3).activations == pytest.approx(3 * one)
    assert memory(shape, length=1024).activations > memory(shape).activations


def test_half_precision_halves_activations_and_adds_copies_of_weights():
    full, half = memory(), memory(precision="bf16")
    assert half.activations == full.activations / 2
    assert half.weights == pytest.approx(1.5 * full.weights)


def test_eager_attention_keeps_its_scores():
    scores = 4 * 2 * (2 * 4 * (512 + 32) ** 2) * 4 / GIB
    more = memory(path="eager").activations - memory().activations
    assert more == pytest.approx(scores)


def test_logits_are_of_a_chunk_or_of_every_labelled_position():
    assert memory(batch=64).logits == pytest.approx(LOSS_CHUNK / GIB)
    assert memory(LED, path="fast", batch=64).logits == pytest.approx(LOSS_CHUNK / GIB)
    stock = memory(LED, path="stock").logits
    assert stock == pytest.approx(2 * 2 * 32 * LED.vocabulary * 4 / GIB)
    assert memory(Shape(decoder_layers=0)).logits == 0


def test_the_error_is_of_measured_cells_each_once():
    forecasts = {"a": memory(), "b": memory(), "c": None, "d": memory()}
    total = forecasts["a"].total
    peaks = (("a", total * 2), ("a", total * 2), ("b", total / 4), ("c", 1), ("d", "NA"))
    rows = [{"cell": name, "peak_memory_gib": str(peak)} for name, peak in peaks]
    miss = memory_miss(rows, forecasts)
    assert (miss.cells, miss.worst_cell) == (2, "b")
    assert (miss.median, miss.worst) == (pytest.approx(3), pytest.approx(4))
    only = memory_miss(rows, forecasts, {("a", "finetune")})
    assert (only.cells, only.worst) == (1, pytest.approx(2))
    assert memory_miss(rows, forecasts, set()) is None
