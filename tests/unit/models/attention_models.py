"""What tests of the fast path share: models with weights of a trained model's size, and batches."""

import torch
from transformers import LEDConfig, LEDForConditionalGeneration

from longwatt.models.attention import led
from longwatt.models.attention.path import FastPath

IGNORED = -100
VOCABULARY = 60


def spread(model, seed: int = 0) -> None:
    """Give weights such sizes that attention is not uniform, and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        size = 0.1
        if parameter.dim() == 2:
            size = 0.7 if "embed" in name or "shared" in name else 1.3 * parameter.shape[1] ** -0.5
        if parameter.dim() == 2 or name.endswith("bias"):
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(drawn * size)


def led_model(window=8, layers: int = 2, heads: int = 2, width: int = 16, **settings):
    """LED with random weights of a trained model's size, the fast path attached."""
    windows = window if isinstance(window, list) else [window] * layers
    config = LEDConfig(
        vocab_size=VOCABULARY, d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width, attention_window=windows, max_encoder_position_embeddings=256,
        max_decoder_position_embeddings=32, **{"dropout": 0.0, **settings},
    )  # fmt: skip
    model = LEDForConditionalGeneration(config)
    spread(model)
    FastPath(model, led.encode, norm_first=False, first_is_global=True).attach()
    return model


def batch_of(lengths: list[int], targets: list[int], seed: int = 0, padded: int = 0) -> dict:
    """Documents and targets of these lengths, padded to the longest and `padded` more."""
    generator = torch.Generator().manual_seed(seed)
    width, most = max(lengths) + padded, max(targets)
    ids = torch.randint(4, VOCABULARY, (len(lengths), width), generator=generator)
    labels = torch.randint(4, VOCABULARY, (len(lengths), most), generator=generator)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids[mask == 0] = 1
    labels[torch.arange(most) >= torch.tensor(targets)[:, None]] = IGNORED
    first = torch.zeros_like(mask)
    first[:, 0] = 1
    both = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {**both, "global_attention_mask": first}


def stock_forward(model, batch):
    """The model's own forward pass, as transformers has it."""
    return type(model).forward(model, **batch)


def loss_and_gradients(model, loss) -> tuple[float, dict]:
    """The loss, and the gradients of all parameters."""
    model.zero_grad()
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), found


def assert_equal_training(model, batch) -> None:
    """Both paths give equal losses and gradients.

    In float64, with LED's own softmax still in float32, every parameter's own gradient is equal. In
    float32 all together are, within 1e-5: one much smaller than the others is rounding.
    """
    for kind, relative in ((torch.float64, 5e-6), (torch.float32, 1e-5)):
        model.to(kind)
        loss, slow = loss_and_gradients(model, stock_forward(model, batch).loss)
        fast_loss, fast = loss_and_gradients(model, model(**batch).loss)
        assert abs(fast_loss - loss) <= relative * loss
        assert set(fast) == set(slow)
        whole = sum(float(g.norm()) ** 2 for g in slow.values()) ** 0.5
        off = {name: float((fast[name] - slow[name]).norm()) for name in slow}
        assert sum(one**2 for one in off.values()) ** 0.5 <= relative * whole
        if kind == torch.float64:
            least = {n: 1e-5 * max(float(g.norm()), 1e-2 * whole) for n, g in slow.items()}
            assert {n: d for n, d in off.items() if d > least[n]} == {}
