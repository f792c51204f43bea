"""LED's fast path against transformers' own, in all that training and evaluation see."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LEDForConditionalGeneration

from longwatt.models.attention import band, led
from longwatt.models.attention.band import Band, band_attention, document_calls
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.path import model_refusal
from tests.unit.models.attention_models import (
    assert_equal_training,
    batch_of,
    led_model,
    loss_and_gradients,
    stock_forward,
)

MODEL = led_model()
# Around the window's edges (it reaches 4 to each side), a block's and a document of one token.
EDGES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 130]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("length", EDGES)
def test_every_length_gives_equal_losses_and_gradients(length, training):
    MODEL.train(training)
    assert_equal_training(MODEL, batch_of([length], [3]))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=7),
    targets=st.lists(st.integers(1, 9), min_size=7, max_size=7),
    padded=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_unequal_documents_give_equal_losses_and_gradients(lengths, targets, padded, seed):
    MODEL.train()
    assert_equal_training(MODEL, batch_of(lengths, targets[: len(lengths)], seed, padded))


@pytest.mark.parametrize("lengths", [[70] * 2, [70] * 6, [70, 31], [70, 31, 5, 70, 1, 64]])
@pytest.mark.parametrize("window", [4, 6, 8, [4, 24], [48, 6]])
def test_windows_of_any_size_may_differ_by_layer(window, lengths):
    model = led_model(window)
    assert_equal_training(model, batch_of(lengths, [2] * len(lengths)))


def test_states_of_real_tokens_are_equal():
    model = led_model().eval()
    batch = batch_of([40, 7, 23], [1, 1, 1])
    packing = Packing.of(batch["attention_mask"])
    given_to_it = {key: batch[key] for key in batch if key != "labels"}
    with torch.no_grad():
        expected = packing.pack(model.get_encoder()(**given_to_it).last_hidden_state)
        found = led.encode(model.get_encoder(), packing.pack(batch["input_ids"]), packing)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_large_layers_by_onednn_are_equal(monkeypatch):
    model = led_model(64, heads=4, width=128)
    batch = batch_of([200, 180], [8, 20])
    assert_equal_training(model, batch)
    monkeypatch.setattr("longwatt.models.attention.linear.WORTH_IT", 0)
    assert_equal_training(model, batch)


def test_ten_steps_have_equal_losses():
    fast = led_model()
    slow = copy.deepcopy(fast)
    slow.forward = None  # it must not be the fast one's
    del slow.forward
    losses: list[list[float]] = [[], []]
    for model, kept in zip((fast, slow), losses, strict=True):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for step in range(10):
            loss = model(**batch_of([60, 33, 9], [5, 8, 2], seed=step)).loss
            kept.append(loss_and_gradients(model, loss)[0])
            optimizer.step()
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][0] != losses[0][-1]


def test_activation_checkpointing_changes_nothing():
    model = led_model()
    batch = batch_of([60, 33, 9], [5, 8, 2])
    loss, plain = loss_and_gradients(model, model(**batch).loss)
    model.gradient_checkpointing_enable()
    kept, again = loss_and_gradients(model, model(**batch).loss)
    assert kept == loss
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_checkpointed_layers_are_computed_twice(monkeypatch):
    model, seen = led_model(), []
    own = led.global_rows
    monkeypatch.setattr(led, "global_rows", lambda *args: seen.append(1) or own(*args))
    model.gradient_checkpointing_enable()
    model(**batch_of([20], [2])).loss.backward()
    assert len(seen) == 2 * 2


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_mixed_precision_is_as_near_to_float32_as_stock(kind):
    model = led_model()
    batch = batch_of([64, 33, 9], [5, 8, 2])
    exact, gradients = loss_and_gradients(model, stock_forward(model, batch).loss)
    off = []
    for forward in (stock_forward, lambda model, batch: model(**batch)):
        with torch.autocast("cpu", dtype=kind):
            loss = forward(model, batch).loss
        found, grads = loss_and_gradients(model, loss)
        assert loss.dtype == torch.float32
        total = sum(float((grads[n] - gradients[n]).norm()) for n in gradients)
        off.append((abs(found - exact) / exact, total))
    (stock_loss, stock_grads), (fast_loss, fast_grads) = off
    assert fast_loss <= 2 * stock_loss + 0.01
    assert fast_grads <= 2 * stock_grads


def test_dropout_is_drawn_anew_and_only_in_training():
    model = led_model(dropout=0.2)
    batch = batch_of([40, 12], [4, 4])
    with torch.no_grad():
        assert model.train()(**batch).loss != model(**batch).loss
        assert model.eval()(**batch).loss == model(**batch).loss


@pytest.mark.parametrize(
    "change",
    [
        {"attention_mask": [[0, 1, 1, 1], [1, 1, 1, 1]]},  # padded on the left
        {"global_attention_mask": [[1, 1, 0, 0], [1, 0, 0, 0]]},  # a second global token
        {"global_attention_mask": [[0, 0, 0, 0], [1, 0, 0, 0]]},
    ],
)
def test_a_batch_of_another_kind_takes_the_stock_path(change):
    batch = batch_of([4, 4], [2, 2]) | {k: torch.tensor(v) for k, v in change.items()}
    expected = stock_forward(MODEL.eval(), batch)
    found = MODEL(**batch)
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(found.logits, expected.logits)


def test_without_a_global_mask_no_token_is_global():
    batch = {k: v for k, v in batch_of([9, 4], [2, 2]).items() if k != "global_attention_mask"}
    with pytest.warns(UserWarning, match="other tokens are global"):
        found = led_model()(**batch).loss
    assert torch.equal(found, stock_forward(led_model(), batch).loss)


def test_a_copy_of_a_model_computes_with_its_own_weights():
    model = led_model()
    batch = batch_of([9, 4], [2, 2])
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        parameter.data *= 0.5
    assert_equal_training(copied, batch)
    assert not torch.equal(copied(**batch).loss, model(**batch).loss)


class Doubled(LEDForConditionalGeneration):
    """A model whose own code the fast path would skip."""

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        found.loss *= 2
        return found


def test_code_that_the_fast_path_would_skip_keeps_the_stock_path():
    model = led_model()
    reason = model_refusal(Doubled(model.config))
    assert "'model' is a" in reason and "Doubled" in reason
    hooked = led_model()
    hooked.get_encoder().layers[1].register_forward_hook(lambda *seen: None)
    assert "layers.1" in model_refusal(hooked)
    adapted = led_model()
    adapted.led.encoder.layers[0].fc1 = Adapted(16, 32)
    assert "fc1" in model_refusal(adapted)


class Adapted(torch.nn.Linear):
    """A linear map that does something else beside its weights."""


def test_attentions_asked_for_come_from_the_stock_path():
    found = MODEL(**batch_of([9], [2]), output_attentions=True)
    assert found.encoder_attentions is not None


@pytest.mark.parametrize(
    "setting", [{"attention_dropout": 0.1}, {"encoder_layerdrop": 0.1}, {"output_attentions": True}]
)
def test_what_is_not_exact_is_refused_with_its_key(setting):
    model = led_model(**setting)
    ((key, _),) = setting.items()
    assert key in (model_refusal(model) or "")
    assert model_refusal(led_model()) is None


def dense(qkv, first, lengths, reach, heads):
    """The same attention with one mask of all pairs."""
    query, key, value = qkv.view(len(qkv), 3, heads, -1).permute(1, 2, 0, 3)
    row = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    place = torch.cat([torch.arange(n) for n in lengths])
    near = (place[:, None] - place).abs() <= reach
    seen = (row[:, None] == row) & (near | (place == 0))
    scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
    out = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value
    out = out.transpose(0, 1).flatten(1)
    return torch.where((place == 0)[:, None], first[row], out)


@pytest.mark.parametrize("lengths", [(1,), (9, 9), (9, 4, 1), (3, 9, 1, 6, 12)])
def test_a_band_is_what_one_mask_of_all_pairs_gives(lengths):
    torch.manual_seed(0)
    qkv = torch.randn(sum(lengths), 12, dtype=torch.float64, requires_grad=True)
    first = torch.randn(len(lengths), 4, dtype=torch.float64, requires_grad=True)
    pattern = Band(Packing(lengths, max(lengths), torch.device("cpu")), reach=2)
    found = band_attention(qkv, first, pattern, heads=2)
    assert torch.allclose(found, dense(qkv, first, lengths, 2, 2), atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda q, f: band_attention(q, f, pattern, 2), (qkv, first), atol=1e-6
    )


@given(length=st.integers(1, 3000), reach=st.integers(1, 600))
@settings(deadline=None)
def test_calls_cover_every_row_once_with_all_its_keys(length, reach):
    rows = []
    for call in document_calls(length, reach):
        for number in range(call.count):
            row, key = (at + number * call.stride for at in (call.row, call.key))
            rows += range(row, row + call.rows)
            assert key <= max(0, row - reach)
            assert min(length, row + call.rows + reach) <= key + call.keys <= length
    assert rows == list(range(length))


@pytest.mark.parametrize("small", [0, 1 << 14])
def test_many_equal_documents_may_have_a_call_each_or_one_for_all(monkeypatch, small):
    monkeypatch.setattr(band, "SMALL", small)
    pattern = Band(Packing((70,) * 6, 70, torch.device("cpu")), reach=4)
    assert (len(pattern.blocks) == 1) is bool(small)
    assert_equal_training(led_model(), batch_of([70] * 6, [2] * 6))


def test_a_block_divides_its_window():
    assert all(2 * reach % band.block_of(reach) == 0 for reach in range(1, 300))
