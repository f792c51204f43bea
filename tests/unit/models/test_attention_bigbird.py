"""BigBird's attention by packed blocks equals transformers' own: outputs and every gradient."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BigBirdPegasusConfig, BigBirdPegasusForConditionalGeneration

from longwatt.models import load_family
from longwatt.models.attention import bigbird_pegasus as fast
from longwatt.models.attention.block_sparse import Drawn, Layout, Pattern, sparse_attention
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.path import FastPath
from longwatt.models.bigbird_regimes import longest_full

PAD, TARGETS, VOCABULARY = 0, 6, 60
PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)
SINGLE = {"rtol": 1e-5, "atol": 1e-5}


def make(block=4, random=2, heads=2, length=512, layers=2, **more):
    """A model with weights of a trained one's size, so that attention is not even."""
    torch.manual_seed(0)
    config = BigBirdPegasusConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=layers, decoder_layers=1,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_position_embeddings=length, block_size=block,
        num_random_blocks=random, dropout=0.0, pad_token_id=PAD, init_std=0.3, **more,
    )  # fmt: skip
    model = BigBirdPegasusForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.3)
    FastPath(model, fast.encode, norm_first=True).attach()
    return model


def batch_of(lengths, width):
    ids = torch.randint(3, VOCABULARY, (len(lengths), width))
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    labels = torch.randint(3, VOCABULARY, (len(lengths), TARGETS))
    labels[0, TARGETS // 2 :] = -100
    return {"input_ids": ids.where(mask, PAD), "attention_mask": mask.long(), "labels": labels}


def results(model, forward, batch):
    """The loss and every gradient."""
    model.zero_grad()
    loss = forward(**batch).loss
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    return loss.detach(), found


def assert_equal(model, batch, tolerance):
    """Compare both paths. A gradient that is zero but for rounding counts by the largest."""
    loss, grads = results(model, lambda **given: type(model).forward(model, **given), batch)
    ours, found = results(model, model, batch)
    assert abs(ours - loss) <= tolerance * abs(loss)
    largest = max(grad.norm() for grad in grads.values())
    for name, grad in grads.items():
        far = (found[name] - grad).norm()
        assert far <= tolerance * max(grad.norm(), 0.01 * largest), name


def states(model, batch):
    """The last hidden states of real tokens by both paths."""
    encoder, mask = model.get_encoder(), batch["attention_mask"]
    packing = Packing.of(mask)
    with torch.no_grad():
        stock = encoder(batch["input_ids"], mask).last_hidden_state
        ours = fast.encode(encoder, packing.pack(batch["input_ids"]), packing)
    return packing.pack(stock), ours


@st.composite
def cases(draw):
    """A shape above the threshold, with documents of any length and one as long as can be."""
    block, random = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    least = longest_full(random, block) + 1
    width = draw(st.integers(least, least + 4 * block))
    lengths = draw(st.lists(st.integers(1, width), min_size=1, max_size=6))
    lengths += draw(st.sampled_from([[], [width], [width] * 2, [lengths[-1]] * 2]))
    return block, random, width, lengths


@PROPERTY
@given(cases(), st.booleans(), st.booleans())
def test_any_batch_equals_transformers(case, bias, training):
    """In double precision, where a wrong key or weight cannot hide in rounding."""
    block, random, width, lengths = case
    model = make(block, random, use_bias=bias).double().train(training)
    assert_equal(model, batch_of(lengths, width), 1e-11)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("width", "lengths"),
    [
        (1024, [1024, 500, 1]),  # the original authors' plan
        (1020, [1020, 1017]),  # padded to it
        (3072, [3072]),
        (4096, [4095]),
        (800, [800, 780, 33]),  # another plan
    ],
)
def test_long_batches_equal_transformers(width, lengths, training):
    model = make(block=64 if width > 3000 else 16, random=3, length=4096, layers=1).train(training)
    batch = batch_of(lengths, width)
    assert_equal(model, batch, 1e-5)
    torch.testing.assert_close(*states(model, batch), **SINGLE)


def test_layers_draw_blocks_of_their_own():
    """The test above would not see a path that draws the same for all."""
    model = make()
    layers = [layer.self_attn.self for layer in model.get_encoder().layers]
    drawn = [fast.random_blocks(attention, 64) for attention in layers]
    assert drawn[0].shape == (2, 14, 2)
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("width", [64, 1024, 28])
def test_blocks_are_those_that_transformers_draws(width, monkeypatch):
    """Also at a width below the threshold, whose plan transformers never reaches in a model."""
    attention = make(length=1024).get_encoder().layers[1].self_attn.self
    seen = []

    def note(*args, **kwargs):
        seen.append(args[2])
        raise InterruptedError

    monkeypatch.setattr(attention, "_create_rand_mask_from_inputs", note)
    with pytest.raises(InterruptedError):
        attention(torch.zeros(1, width, 16))
    assert torch.equal(seen[0][0], fast.random_blocks(attention, width))


def test_drawing_leaves_numpy_as_it_was():
    attention = make().get_encoder().layers[0].self_attn.self
    fast._DRAWN.clear()
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    fast.random_blocks(attention, 64)
    assert np.array_equal(np.random.random(3), expected)


def test_what_is_drawn_hangs_on_all_that_transformers_asks():
    """A cache that forgets one of these would give a second model the first one's blocks."""
    drawn = {}
    for block, random, heads, length in itertools.product((4, 8), (1, 2), (1, 2), (1024, 2048)):
        attention = make(block, random, heads, length).get_encoder().layers[0].self_attn.self
        for width in (512, 1024):
            drawn[block, random, heads, length, width] = fast.random_blocks(attention, width)
    for (block, random, heads, _, width), blocks in drawn.items():
        assert blocks.shape == (heads, width // block - 2, random)
    for attention in (layer.self_attn.self for layer in make(length=1024).get_encoder().layers):
        before = fast.random_blocks(attention, 1024)
        attention.max_seqlen = 2048
        assert not torch.equal(fast.random_blocks(attention, 1024), before)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rows", [[36], [36, 1, 20], [5, 9, 36, 1, 2, 3, 4, 6, 7]])
def test_at_the_threshold_attention_is_full_for_good(rows, training):
    model, other = make().train(training), make().train(training)
    batch = batch_of(rows, 36)
    assert longest_full(2, 4) == 36
    loss, grads = results(model, model, batch)
    stock, expected = results(other, lambda **given: type(other).forward(other, **given), batch)
    torch.testing.assert_close((loss, grads), (stock, expected), rtol=1e-4, atol=1e-5)
    longer = batch_of([64], 64)
    assert [m.get_encoder().attention_type for m in (model, other)] == ["original_full"] * 2
    assert_equal(model, longer, 1e-5)


def test_just_above_the_threshold_attention_is_sparse():
    model = make()
    assert_equal(model, batch_of([37, 36, 1], 37), 1e-5)
    assert model.get_encoder().attention_type == "block_sparse"
    full = make(attention_type="original_full")
    batch = batch_of([37], 37)
    assert abs(full(**batch).loss - model(**batch).loss) > 1e-4


@pytest.mark.parametrize("kind", ["block_sparse", "original_full"])
def test_activation_checkpointing_changes_nothing(kind):
    model = make(attention_type=kind).train()
    batch = batch_of([64, 30], 64)
    loss, grads = results(model, model, batch)
    model.gradient_checkpointing_enable()
    calls = []
    for layer in model.get_encoder().layers:
        layer.final_layer_norm.register_forward_hook(lambda *_: calls.append(1))
    again, same = results(model, model, batch)
    assert len(calls) == 4, "two layers, each forward and once more in the backward pass"
    torch.testing.assert_close((again, same), (loss, grads), rtol=0, atol=0)


def test_bfloat16_stays_near():
    model = make().train()
    batch = batch_of([64, 30], 64)
    loss, grads = results(model, model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        coarse, rough = results(model, model, batch)
    assert abs(coarse - loss) < 0.03 * loss
    name = "model.encoder.layers.0.self_attn.self.value.weight"
    assert (rough[name] - grads[name]).norm() < 0.1 * grads[name].norm()


def test_dropout_drops_in_training_only():
    model = make().train()
    batch = batch_of([64], 64)
    plain = model(**batch).loss
    for part in (model.get_encoder(), *model.get_encoder().layers):
        part.dropout = 0.5
    first, second = (model(**batch).loss for _ in range(2))
    assert first != second
    model.eval()
    for part in (model.get_encoder(), *model.get_encoder().layers):
        part.dropout = 0.0
    assert abs(model(**batch).loss - plain) > 0  # other blocks are seen
    before = model(**batch).loss
    model.get_encoder().dropout = 0.5
    assert model(**batch).loss == before


def pattern(lengths, width, size=2, repeated=0):
    return Pattern(Layout(Packing(tuple(lengths), width, torch.device("cpu")), size), repeated)


@pytest.mark.parametrize("repeated", [0, 2])
@pytest.mark.parametrize("lengths", [[10, 10], [10, 5, 1], [3]])
def test_gradients_are_the_slopes(lengths, repeated):
    torch.manual_seed(1)
    blocks = pattern(lengths, 10, repeated=repeated)
    random = None
    if not repeated:
        random = Drawn.of(blocks.layout, torch.randint(0, 5, (2, 3, 2)))
    qkv = torch.randn(sum(lengths), 3 * 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: sparse_attention(x, blocks, random, 2), qkv, fast_mode=True
    )


def counts_of(length, last, size, chosen, repeated):
    """How often each query of a document sees each key (heads, queries, keys)."""
    found = torch.zeros(len(chosen), length, (last + 1) * size)
    for head, block in itertools.product(range(len(chosen)), range(-(-length // size))):
        blocks = range(last + 1)
        if 0 < block < last:
            near = {0, block - 1, block, block + 1, last}
            blocks = [*near, *[0] * repeated, *chosen[head, block - 1].tolist()]
        for seen in blocks:
            found[head, block * size : block * size + size, seen * size : seen * size + size] += 1
    return found[..., :length]


def by_definition(qkv, lengths, last, size, chosen, repeated):
    """Scores of all keys, each weighed by how often it is seen."""
    found = []
    for tokens in qkv.split(lengths):
        q, k, v = tokens.unflatten(1, (3, len(chosen), -1)).permute(1, 2, 0, 3)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        scores = scores + counts_of(len(tokens), last, size, chosen, repeated).log()
        found.append((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    return torch.cat(found)


@PROPERTY
@given(st.lists(st.integers(1, 24), min_size=1, max_size=4), st.integers(0, 3), st.booleans())
def test_a_key_counts_as_often_as_it_is_drawn(lengths, drawn, training):
    """Random blocks of all kinds: twice the same, a global one, one of the window, none there."""
    torch.manual_seed(sum(lengths))
    repeated = 0 if training else drawn
    blocks = pattern(lengths, 23, size=3, repeated=repeated)
    lengths = blocks.layout.packing.lengths
    chosen = torch.randint(0, 8, (2, 6, drawn if training else 0))
    qkv = torch.randn(sum(lengths), 3 * 8)
    random = Drawn.of(blocks.layout, chosen) if training else None
    ours = sparse_attention(qkv, blocks, random, 2)
    expected = by_definition(qkv, lengths, blocks.layout.last, 3, chosen, repeated)
    torch.testing.assert_close(ours, expected, **SINGLE)


def test_blocks_without_tokens_are_not_computed():
    blocks = pattern([2, 5], 400, size=4).layout
    assert blocks.counts == (1, 2)
    assert len(blocks.lay(torch.zeros(7, 3))) == 4 * 4, "and one for the last window to end on"
    assert sum(rows.count for rows in blocks.chunks()) == 2


def test_a_call_lacks_random_blocks_that_no_document_reaches():
    short = pattern([9, 9], 60, size=3)
    none = Drawn.of(short.layout, torch.full((1, 18, 2), 10))
    assert none.parts == ()
    some = Drawn.of(short.layout, torch.tensor([10, 1]).expand(1, 18, 2))
    assert [part.index.shape[-1] for part in some.parts] == [1]


@pytest.mark.parametrize("seq_len", [64, 16])
def test_the_family_attaches_the_path(seq_len):
    family = load_family("bigbird_pegasus")
    model = BigBirdPegasusForConditionalGeneration(make().config)
    assert family._attach(model, "stock") is None
    assert "forward" not in vars(model)
    assert family._attach(model, "fast") is None
    family._adapt(model, seq_len)
    assert_equal(model, batch_of([seq_len, 3], seq_len), 1e-5)


def test_the_family_says_why_it_cannot():
    family = load_family("bigbird_pegasus")
    model = BigBirdPegasusForConditionalGeneration(make(attention_dropout=0.1).config)
    assert "attention_dropout is 0.1" in family._attach(model, "fast")
    assert "forward" not in vars(model)
