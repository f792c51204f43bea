"""The parts of the fast path: packed tokens, products, the loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from longwatt.models.attention import linear, loss
from longwatt.models.attention.packing import Packing

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def mask_of(lengths: list[int], width: int) -> torch.Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


@given(lengths=LENGTHS, more=st.integers(0, 4))
@settings(deadline=None)
def test_packing_and_padding_undo_each_other(lengths, more):
    width = max(lengths) + more
    packing = Packing.of(mask_of(lengths, width))
    padded = torch.arange(len(lengths) * width * 2).view(len(lengths), width, 2).float()
    packed = packing.pack(padded)
    kept = [row[:n] for row, n in zip(padded, lengths, strict=True)]
    assert torch.equal(packed, torch.cat(kept))
    real = mask_of(lengths, width)[..., None]
    assert torch.equal(packing.pad(packed, width), padded * real)
    assert packing.pad(packed).shape[1] == max(lengths)
    assert packing.positions.tolist() == [place for n in lengths for place in range(n)]


@pytest.mark.parametrize("mask", [[[0, 1], [1, 1]], [[1, 0, 1]], [[0, 0], [1, 1]]])
def test_padding_before_a_token_and_empty_rows_are_not_packed(mask):
    assert Packing.of(torch.tensor(mask)) is None


@pytest.mark.parametrize(("rows", "inner", "columns"), [(300, 64, 192), (300, 192, 64), (7, 5, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_by_onednn_and_its_gradients_are_torchs(monkeypatch, rows, inner, columns, bias):
    if not linear.has_onednn():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(linear, "WORTH_IT", 0)
    torch.manual_seed(0)
    shapes = [(rows, inner), (columns, inner), *([(columns,)] if bias else [])]
    ours = [torch.randn(shape, requires_grad=True) for shape in shapes]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    weights = torch.randn(rows, columns)
    for function, tensors in ((linear.linear, ours), (functional.linear, theirs)):
        (function(*tensors) * weights).sum().backward()
    assert "_Linear" in type(linear.linear(*ours).grad_fn).__name__
    for mine, its in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, its.grad, rtol=1e-5, atol=1e-3)


def test_small_products_and_other_types_are_left_to_torch():
    small, weight = torch.randn(2, 3, requires_grad=True), torch.randn(4, 3)
    assert "_Linear" not in type(linear.linear(small, weight).grad_fn).__name__
    wide = torch.randn(3000, 128, dtype=torch.float64)
    assert linear.linear(wide, torch.randn(128, 128, dtype=torch.float64)).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = linear.linear(torch.randn(3000, 128), torch.randn(128, 128))
    assert low.dtype == torch.bfloat16


@pytest.mark.parametrize("chunk", [1, 40, 1 << 22])
@pytest.mark.parametrize("biased", [True, False])
def test_a_loss_in_chunks_is_the_whole_one(monkeypatch, chunk, biased):
    monkeypatch.setattr(loss, "CHUNK", chunk)
    torch.manual_seed(0)
    hidden, weight = torch.randn(23, 8), torch.randn(11, 8)
    labels, bias = torch.randint(11, (23,)), torch.randn(11) if biased else None
    ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    theirs = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    found = loss.linear_cross_entropy(*ours, labels, bias)
    expected = functional.cross_entropy(functional.linear(*theirs, bias), labels)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    (found * 3).backward()
    (expected * 3).backward()
    for mine, its in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, its.grad, rtol=1e-5, atol=1e-6)


def test_half_precision_keeps_the_small_slopes_that_its_loss_is_scaled_for():
    """Divided by the number of labels before they are scaled, they would vanish in fp16."""
    torch.manual_seed(0)
    hidden, weight = torch.rand(2000, 8), 0.01 * torch.randn(3000, 8)
    labels = torch.zeros(2000, dtype=torch.long)
    ours, theirs = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    functional.cross_entropy(hidden @ theirs.T, labels).backward()
    with torch.autocast("cpu", dtype=torch.float16):
        found = loss.linear_cross_entropy(hidden, ours, labels)
    (found * 4096).backward()
    rest = slice(1, None)  # all but the label's row, whose slopes are large
    off = (ours.grad[rest] / 4096 - theirs.grad[rest]).norm()
    assert float(off) <= 0.02 * float(theirs.grad[rest].norm())


def test_a_loss_without_gradient_is_computed_too():
    with torch.no_grad():
        found = loss.linear_cross_entropy(torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1]))
    assert float(found) == pytest.approx(torch.tensor(4.0).log().item())


def test_a_loss_of_many_labels_holds_few_logits(monkeypatch):
    """What memory hangs on: no product is larger than a chunk."""
    monkeypatch.setattr(loss, "CHUNK", 64)
    sizes, own = [], loss.product
    monkeypatch.setattr(loss, "product", lambda a, b: sizes.append(len(a) * len(b)) or own(a, b))
    hidden = torch.randn(500, 2, requires_grad=True)
    loss.linear_cross_entropy(hidden, torch.randn(16, 2), torch.zeros(500, dtype=torch.long))
    assert max(sizes) <= 64
