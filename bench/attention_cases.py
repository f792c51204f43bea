"""Shapes that `bench.attention` measures, and the work that an exact pass over them needs.

Work counts a product's multiplications and additions. Of attention it counts the pairs of query and
key that a pattern names, and nothing that an implementation computes beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LED, BIGBIRD = "led", "bigbird_pegasus"
STEP, ENCODER, GENERATE = "step", "encoder", "generate"
BACKWARD = 2  # a backward pass makes two products for each of the forward pass
EITHER, GPU = "either", "gpu"


@dataclass(frozen=True)
class AttentionCase:
    """A model's shape, a batch, and what to do with it.

    Attributes:
        work: a training step (forward and backward), an encoder's evaluation, or generation.
        width, heads, layers: of encoder and decoder alike.
        span: LED's attention window, or the tokens of BigBird's blocks.
        random: random blocks of BigBird; 0 for LED.
        vocabulary: token ids.
        batch, length, targets: documents, tokens of each, and of each target.
        inner: width of a feed-forward layer over that of the model.
        where: `gpu` for a shape that takes a CPU many minutes.
    """

    family: str
    work: str
    width: int
    heads: int
    layers: int
    span: int
    random: int
    vocabulary: int
    batch: int
    length: int
    targets: int
    inner: int = 4
    where: str = EITHER

    @property
    def forward_flop(self) -> float:
        """Return the floating-point operations of a forward pass."""
        encoded = self._encoder_flop
        return encoded if self.work == ENCODER else encoded + self._decoder_flop

    @property
    def flop(self) -> float:
        """Return the floating-point operations of the whole work."""
        return self.forward_flop * (1 + BACKWARD if self.work == STEP else 1)

    @property
    def pairs(self) -> int:
        """Count the pairs of query and key in the self-attention of a document."""
        if self.family == LED:
            return led_pairs(self.length, self.span // 2)
        return bigbird_pairs(self.length, self.span, self.random if self.work == STEP else 0)

    @property
    def _encoder_flop(self) -> float:
        tokens, width = self.batch * self.length, self.width
        layer = tokens * (8 + 4 * self.inner) * width**2 + self.batch * self.pairs * 4 * width
        # The global row of LED has three projections of its own.
        apart = 6 * self.batch * width**2 if self.family == LED else 0
        return float(self.layers * (layer + apart))

    @property
    def _decoder_flop(self) -> float:
        tokens, width = self.batch * self.targets, self.width
        layer = tokens * (12 + 4 * self.inner) * width**2
        layer += self.batch * self.length * 4 * width**2  # keys and values of the encoded
        seen = self.targets * (self.targets + 1) // 2 + self.targets * self.length
        layer += self.batch * seen * 4 * width
        return float(self.layers * layer + 2 * tokens * width * self.vocabulary)


def led_pairs(length: int, reach: int) -> int:
    """Count the pairs of a document in LED: a window, the first token's row and its column."""
    near = min(reach, length - 1)
    window = length * (2 * near + 1) - near * (near + 1)
    row = length - (near + 1)  # what the first token sees beyond its window
    return window + 2 * row


def bigbird_pairs(length: int, block: int, random: int) -> int:
    """Count the pairs of a document that fills whole blocks in BigBird's pattern.

    Two blocks see all. The second and the last but one see four without random ones, others five.
    """
    blocks = length // block
    seen = 2 * blocks + 2 * (4 + random) + (blocks - 4) * (5 + random)
    return seen * block**2


LED_BASE = AttentionCase(LED, STEP, 768, 12, 1, 1024, 0, 8192, 1, 2048, 64)
LED_256 = AttentionCase(LED, STEP, 256, 4, 4, 256, 0, 8192, 4, 2048, 64)
LED_DEMO = AttentionCase(LED, STEP, 64, 4, 1, 32, 0, 4000, 32, 512, 64, inner=2)
BIGBIRD_256 = AttentionCase(BIGBIRD, STEP, 256, 4, 4, 64, 3, 8192, 1, 4096, 64)
BIGBIRD_LARGE = AttentionCase(BIGBIRD, STEP, 1024, 16, 1, 64, 3, 8192, 1, 4096, 64)
BIGBIRD_DEMO = AttentionCase(BIGBIRD, STEP, 64, 4, 1, 16, 1, 4000, 32, 256, 8, inner=2)


def _changed(case: AttentionCase, **changes: object) -> AttentionCase:
    return AttentionCase(**{**vars(case), **changes})  # type: ignore[arg-type]


CASES: Mapping[str, AttentionCase] = {
    "led_base_2048": LED_BASE,
    "led_base_4096": _changed(LED_BASE, length=4096),
    "led_d256_2048x4": LED_256,
    "led_d256_4096x2": _changed(LED_256, length=4096, batch=2),
    "led_demo_256": _changed(LED_DEMO, length=256, targets=8),
    "led_demo_512": LED_DEMO,
    "led_base_2048_encoder": _changed(LED_BASE, work=ENCODER),
    "led_demo_512_encoder": _changed(LED_DEMO, work=ENCODER),
    "led_d256_2048x8_generate": _changed(LED_256, work=GENERATE, batch=8),
    "bigbird_d256_4096": BIGBIRD_256,
    "bigbird_d256_2048x2": _changed(BIGBIRD_256, length=2048, batch=2),
    "bigbird_large_4096": BIGBIRD_LARGE,
    "bigbird_demo_256": BIGBIRD_DEMO,
    "bigbird_d256_4096_encoder": _changed(BIGBIRD_256, work=ENCODER),
    "bigbird_large_4096_encoder": _changed(BIGBIRD_LARGE, work=ENCODER),
    "bigbird_demo_256_encoder": _changed(BIGBIRD_DEMO, work=ENCODER),
    "led_base_published_2048": _changed(
        LED_BASE, layers=6, vocabulary=50265, targets=128, where=GPU
    ),
    "led_base_published_4096": _changed(
        LED_BASE, layers=6, vocabulary=50265, targets=128, length=4096, where=GPU
    ),
    "bigbird_large_published_4096": _changed(
        BIGBIRD_LARGE, layers=16, vocabulary=96103, targets=128, where=GPU
    ),
}
# A case of seconds, for tests and to warm a process up.
TINY: Mapping[str, AttentionCase] = {
    "led_tiny": _changed(LED_DEMO, batch=2, length=96, targets=8, vocabulary=100),
    "led_tiny_encoder": _changed(
        LED_DEMO, work=ENCODER, batch=2, length=96, targets=8, vocabulary=100
    ),
    "led_tiny_generate": _changed(
        LED_DEMO, work=GENERATE, batch=2, length=96, targets=8, vocabulary=100
    ),
    "bigbird_tiny": _changed(BIGBIRD_DEMO, batch=2, length=160, vocabulary=100),
    "bigbird_tiny_encoder": _changed(
        BIGBIRD_DEMO, work=ENCODER, batch=2, length=160, vocabulary=100
    ),
}
