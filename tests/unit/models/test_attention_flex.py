"""Attention on GPUs: the same patterns and numbers as stock, checked as far as a CPU can.

FlexAttention without compilation computes the same functions densely. Its backward pass is closed
on a CPU by a check of the device, which these tests lift.
"""

import warnings

import pytest
import torch
from torch.nn.attention import flex_attention as library
from transformers import (
    BigBirdPegasusConfig,
    BigBirdPegasusForConditionalGeneration,
    LEDConfig,
    LEDForConditionalGeneration,
)
from transformers.models.bigbird_pegasus.modeling_bigbird_pegasus import (
    BigBirdPegasusBlockSparseAttention,
    BigBirdPegasusEncoder,
)
from transformers.models.led.modeling_led import LEDEncoderSelfAttention

from longwatt.models.attention import bigbird_pegasus, flex, led
from longwatt.models.attention.band import Band, band_attention
from longwatt.models.attention.packing import Packing
from longwatt.models.attention.path import FastPath

CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
LENGTHS = [(200, 300, 7, 1, 130), (520,), (129, 127), (128, 128), (1,)]


def packed(*lengths: int, device: torch.device = CPU) -> Packing:
    return Packing(lengths, max(lengths), device)


@pytest.fixture
def dense(monkeypatch):
    """FlexAttention on a CPU with gradients, by its dense reference."""
    monkeypatch.setattr(library, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(library, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)


def seen_in(mask, heads: int = 1) -> torch.Tensor:
    """Which key each query sees, by the mask's own function (heads, queries, keys)."""
    size = mask.shape[-1]
    return library.create_mask(mask.mask_mod, 1, heads, size, size, device="cpu")[0]


def led_pattern(tokens: int, reach: int) -> torch.Tensor:
    """Which keys stock LED sees, read off its outputs for equal scores and one-hot values."""
    width = -(-tokens // (2 * reach)) * 2 * reach
    config = LEDConfig(
        d_model=width, encoder_attention_heads=1, attention_window=[2 * reach],
        attention_probs_dropout_prob=0.0, num_attention_heads=1, hidden_size=width,
    )  # fmt: skip
    stock = LEDEncoderSelfAttention(config, 0).eval()
    for layer in stock.children():
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.nn.init.eye_(stock.value.weight)
    torch.nn.init.eye_(stock.value_global.weight)
    mask = torch.full((1, width), -10000.0)
    mask[:, :tokens], mask[:, 0] = 0, 10000.0
    found = stock(
        torch.eye(width)[None],
        attention_mask=mask,
        is_index_masked=mask < 0,
        is_index_global_attn=mask > 0,
        is_global_attn=True,
    )[0]
    return found[0, :tokens, :tokens] > 0


@pytest.mark.parametrize("tokens", [90, 33, 20])
def test_a_document_sees_the_keys_of_stock_led(tokens):
    reach, before = 16, 50
    mask = flex.band_mask((before, tokens), reach, CPU)
    ours = seen_in(mask)[0, before : before + tokens]
    stock = led_pattern(tokens, reach)
    # The first row is computed apart, by the global projections.
    assert torch.equal(ours[1:, before : before + tokens], stock[1:])
    assert int(ours.sum()) == int(ours[:, before : before + tokens].sum())
    assert stock[0].all()


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("reach", [1, 16, 64, 300])
def test_kernel_blocks_of_the_band_are_those_that_its_function_needs(lengths, reach):
    mask = flex.band_mask(lengths, reach, CPU)
    assert_same_blocks(mask, 1)


def assert_same_blocks(mask, heads):
    size = mask.shape[-1]
    wanted = library.create_block_mask(mask.mask_mod, 1, heads, size, size, device="cpu")
    assert torch.equal(mask.to_dense(), wanted.to_dense())
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(mask, name), getattr(wanted, name)), name


@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_band_is_that_of_the_cpu_and_so_are_its_gradients(dense, lengths):
    heads, size, reach, packing = 2, 16, 16, packed(*lengths)
    generator = torch.Generator().manual_seed(0)
    shapes = ((sum(lengths), 3 * heads * size), (len(lengths), heads * size))
    inputs = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    grad = torch.randn(sum(lengths), heads * size, generator=generator)
    found = []
    for attend in (band_attention, flex.flex_band_attention):
        out = attend(*inputs, Band(packing, reach), heads)
        found.append((out, *torch.autograd.grad(out, inputs, grad)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.long
@torch.no_grad()
def test_a_compiled_band_is_that_of_the_cpu_and_one_kernel_serves_all_lengths_of_a_size(
    monkeypatch,
):
    """The call that a GPU makes, compiled for this processor and forward only."""
    monkeypatch.setattr(flex, "flex_attention", flex._compiled())
    torch._dynamo.utils.counters.clear()
    for lengths in ((200, 20), (256,), (60, 80, 93)):
        packing = packed(*lengths)
        inputs = (torch.randn(sum(lengths), 96), torch.randn(len(lengths), 32))
        ours = flex.flex_band_attention(*inputs, Band(packing, 16), 2)
        theirs = band_attention(*inputs, Band(packing, 16), 2)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def stock_bigbird(heads: int, block: int, random: int, training: bool):
    """Stock BigBird's attention, and a list into which it puts the blocks that it draws."""
    config = BigBirdPegasusConfig(
        hidden_size=heads * 16, d_model=heads * 16, num_attention_heads=heads,
        encoder_attention_heads=heads, block_size=block, num_random_blocks=random, use_bias=True,
    )  # fmt: skip
    stock, drawn = BigBirdPegasusBlockSparseAttention(config, 3).train(training), []
    mask_of = stock._create_rand_mask_from_inputs

    def watched(queries, keys, chosen, *sizes):
        drawn.append(chosen[0])
        return mask_of(queries, keys, chosen, *sizes)

    stock._create_rand_mask_from_inputs = watched
    return stock, drawn


def stock_masks(packing: Packing, block: int) -> dict[str, torch.Tensor]:
    real = packing.real(packing.width).float()
    made = BigBirdPegasusEncoder.create_masks_for_block_sparse_attn(real, block)
    blocked, band, queries, keys = made
    names = {"from_mask": queries, "to_mask": keys, "band_mask": band}
    return {**names, "from_blocked_mask": blocked, "to_blocked_mask": blocked}


@pytest.mark.parametrize(
    ("lengths", "width", "block", "random", "training"),
    [
        ((400, 130), 400, 16, 3, True),
        ((400, 130, 5), 400, 16, 3, False),
        ((1024, 777, 64), 1024, 64, 1, True),  # the plan of the original authors
        ((330,), 384, 48, 1, True),
        ((352,), 352, 32, 2, True),
    ],
)
def test_blocks_are_those_of_stock_bigbird(dense, lengths, width, block, random, training):
    heads = 2
    stock, drawn = stock_bigbird(heads, block, random, training)
    packing = Packing(lengths, width, CPU)
    padded = torch.randn(
        len(lengths), width, heads * 16, generator=torch.Generator().manual_seed(0)
    )
    theirs = packing.pack(stock(padded, **stock_masks(packing, block))[0])
    sparse = flex.SparseCounts.of(drawn[0], block)
    projections, hidden = (stock.query, stock.key, stock.value), packing.pack(padded)
    qkv = torch.cat([layer(hidden) for layer in projections], -1)
    ours = flex.flex_block_attention(qkv, packing, sparse, heads)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weights = [layer.weight for layer in projections]
    grads = [torch.autograd.grad(out.square().sum(), weights) for out in (ours, theirs)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert_same_blocks(flex.block_mask(packing, sparse)[0], heads)


def test_a_block_counts_as_often_as_it_is_drawn():
    drawn = torch.tensor([[[3, 0], [5, 5], [1, 4], [0, 0]]])
    counts = flex.SparseCounts.of(drawn, 16).counts
    assert counts.tolist() == [
        [
            [1, 1, 1, 1, 1, 1],
            [2, 1, 1, 1, 0, 1],
            [1, 1, 1, 1, 0, 3],
            [1, 1, 1, 1, 2, 1],
            [3, 0, 0, 1, 1, 1],
            [1, 1, 1, 1, 1, 1],
        ]
    ]


def tiny_led(**changes) -> LEDForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}
    alike = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in sizes.items()}
    config = LEDConfig(
        **alike, vocab_size=100, d_model=32, attention_window=[8, 32], dropout=0.0,
        max_encoder_position_embeddings=300, max_decoder_position_embeddings=32, init_std=0.2,
    )  # fmt: skip
    config.update(changes)
    return LEDForConditionalGeneration(config)


def batch_of(*lengths: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    mask = packed(*lengths).real(max(lengths)).long()
    first = torch.zeros_like(mask)
    first[:, 0] = 1
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 100, mask.shape, generator=generator) * mask + (1 - mask)
    labels = torch.randint(5, 100, (len(lengths), 12), generator=generator)
    labels[0, 7:] = -100
    made = {"input_ids": ids, "attention_mask": mask, "global_attention_mask": first}
    return {name: value.to(device) for name, value in {**made, "labels": labels}.items()}


def step(forward, model, batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and all gradients."""
    model.zero_grad()
    loss = forward(**batch).loss
    loss.backward()
    return loss.detach(), {name: part.grad.clone() for name, part in model.named_parameters()}


def assert_a_step_is_stock(model, batch, encode=led.encode, norm_first=False, tolerance=1e-5):
    stock = type(model).forward
    theirs = step(lambda **given: stock(model, **given), model, batch)
    FastPath(model, encode, norm_first, first_is_global=not norm_first).attach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the path says so where it is not taken
        ours = step(model, model, batch)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("lengths", [(96, 96), (100, 7, 1), (60,), (90, 70, 50, 30, 10)])
def test_a_step_of_led_is_stock_on_every_device(device, lengths):
    assert_a_step_is_stock(tiny_led().to(device), batch_of(*lengths, device=device))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_led_by_flex_is_stock(dense, monkeypatch, checkpointing):
    calls = []

    def flex_band(*given):
        calls.append(1)
        return flex.flex_band_attention(*given)

    monkeypatch.setattr(led, "band_attention", flex_band)
    model = tiny_led()
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.train()
    assert_a_step_is_stock(model, batch_of(90, 70, 50, 30, 10))
    assert len(calls) == (4 if checkpointing else 2)


def tiny_bigbird() -> BigBirdPegasusForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}
    alike = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in sizes.items()}
    config = BigBirdPegasusConfig(
        **alike, vocab_size=100, d_model=32, block_size=16, num_random_blocks=2, dropout=0.0,
        max_position_embeddings=4096, init_std=0.2, use_bias=True, pad_token_id=0, eos_token_id=1,
        bos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    return BigBirdPegasusForConditionalGeneration(config)


def sparse_batch(device: str = "cpu") -> dict[str, torch.Tensor]:
    batch = batch_of(330, 150, 7, device=device)
    del batch["global_attention_mask"]
    return batch


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("training", [True, False])
def test_a_step_of_bigbird_is_stock_on_every_device(device, training):
    model = tiny_bigbird().to(device).train(training)
    assert_a_step_is_stock(model, sparse_batch(device), bigbird_pegasus.encode, True)
    assert model.get_encoder().attention_type == "block_sparse"


@pytest.mark.parametrize("training", [True, False])
def test_a_step_of_bigbird_by_flex_is_stock(dense, monkeypatch, training):
    calls = []

    def flexible(qkv, pattern, source, heads):
        calls.append(1)
        layout = pattern.layout
        layer = model.get_encoder().layers[len(calls) - 1].self_attn.self
        width = (layout.last + 1) * layout.size
        drawn = bigbird_pegasus.random_blocks(layer, width) if training else None
        sizes = (heads, layout.last + 1, pattern.repeated, layout.size)
        counts = bigbird_pegasus._counted(drawn, *sizes, CPU)
        return flex.flex_block_attention(qkv, layout.packing, counts, heads)

    model = tiny_bigbird().train(training)
    monkeypatch.setattr(bigbird_pegasus, "sparse_attention", flexible)
    assert_a_step_is_stock(model, sparse_batch(), bigbird_pegasus.encode, True)
    assert len(calls) == 2


@pytest.mark.gpu
@NO_GPU
def test_lengths_of_one_size_share_a_kernel():
    flex._compiled()
    torch._dynamo.utils.counters.clear()
    for lengths in ((100, 20), (128,), (60, 60, 3)):
        qkv = torch.randn(sum(lengths), 96, device="cuda")
        band = Band(packed(*lengths, device=qkv.device), 8)
        flex.flex_band_attention(qkv, qkv[: len(lengths), :32], band, 2)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 1


@pytest.mark.parametrize(
    ("tokens", "size"),
    [(1, 128), (128, 128), (129, 256), (1024, 1024), (1025, 1280), (9000, 10240)],
)
def test_lengths_are_rounded_up(tokens, size):
    assert flex.rounded(tokens) == size


def test_few_sizes_stand_for_all_lengths():
    sizes = {flex.rounded(tokens) for tokens in range(1, 1 << 16)}
    assert len(sizes) <= 4 * 9 + 4
    assert all(size % flex.KERNEL == 0 for size in sizes)
    assert all(flex.rounded(tokens) <= 1.25 * tokens for tokens in range(513, 1 << 14))


@pytest.mark.parametrize(
    ("device", "dtype", "size", "words"),
    [
        ("cpu", torch.float64, 8, None),
        ("meta", torch.float32, 64, "this device is meta"),
        ("cuda", torch.float32, 8, "a head holds 8 numbers"),
        ("cuda", torch.float32, 512, "a head holds 512 numbers"),
        ("cuda", torch.float64, 64, "numbers are float64"),
    ],
)
def test_a_device_that_cannot_says_why(device, dtype, size, words):
    found = flex.device_refusal(torch.device(device), dtype, size)
    assert found is None if words is None else words in found


def test_a_gpu_without_a_compiler_says_so(monkeypatch):
    monkeypatch.setattr(flex.importlib.util, "find_spec", lambda name: None)
    refused = flex.device_refusal(torch.device("cuda"), torch.float32, 64)
    assert "Triton, which is not installed" in refused


@pytest.mark.parametrize(
    ("capability", "dtype", "words"),
    [
        ((6, 1), torch.float32, "kernels of any type need compute capability 7.0"),
        ((7, 5), torch.float32, None),
        ((7, 5), torch.bfloat16, "kernels of bf16 need compute capability 8.0"),
        ((8, 0), torch.bfloat16, None),
    ],
)
def test_an_old_gpu_says_so(monkeypatch, capability, dtype, words):
    monkeypatch.setattr(flex.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found = flex.device_refusal(torch.device("cuda"), dtype, 64)
    assert found is None if words is None else words in found
    # Mixed precision computes in its own type, whatever the weights are.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: dtype)
    path = FastPath(tiny_led(), led.encode, norm_first=False, first_is_global=True)
    found = path.refusal_on(torch.device("cuda"))
    assert found is None if words is None else words in found
    precision = {torch.bfloat16: "bf16", torch.float32: "fp32"}.get(dtype)
    if precision:
        found = path.refusal_on(torch.device("cuda"), precision)
        assert found is None if words is None else words in found


def test_a_kernel_that_cannot_be_made_says_what_to_do():
    def fails(*tensors, **given):
        raise RuntimeError("out of resource: shared memory")

    with pytest.raises(RuntimeError, match="out of resource") as caught:
        flex._advised(fails)(torch.ones(1))
    assert "`attention: stock`" in caught.value.__notes__[0]


def test_a_device_that_cannot_takes_the_stock_path_and_says_why():
    model = tiny_led()
    path = FastPath(model, led.encode, norm_first=False, first_is_global=True)
    batch = {name: value.to("meta") for name, value in batch_of(9, 5).items()}
    batch["attention_mask"] = batch_of(9, 5)["attention_mask"]
    batch["global_attention_mask"] = batch_of(9, 5)["global_attention_mask"]
    with pytest.warns(UserWarning, match="stock path: .* this device is meta"):
        assert path.packing(batch) is None
    assert path.refusal_on(CPU) is None
