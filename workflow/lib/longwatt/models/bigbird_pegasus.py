"""BigBird-Pegasus (Zaheer et al. 2020): block-sparse attention over long inputs, full over short.

Behaviour of transformers 5, and what follows from it here:

- A batch at or below the threshold switches the model to full attention for good (transformers
  #20031). The length of a cell therefore decides its regime, from its first batch to its last.
- The global blocks are the first and the last of the padded input, and the places of the random
  blocks depend on its length. A prediction would therefore depend on the longest input of its
  batch. In the sparse regime every batch is padded to the cell's length.
- Random blocks are drawn in training; in evaluation all of them are the first block. At 1024, 3072
  and 4096 tokens they come from the first 1,024 tokens (the original authors' plan). Other lengths,
  2048 among them, use another plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from longwatt.models.bigbird_regimes import FULL, OLD_PLAN, SPARSE, longest_full
from longwatt.models.encoder_decoder import EncoderDecoder
from longwatt.models.errors import ModelError
from longwatt.models.family import FAST, STOCK, Batch, Config, Example, Exits

if TYPE_CHECKING:
    from longwatt.models.attention.path import FastPath

REGIMES = {SPARSE: "block-sparse attention", FULL: "full attention"}


class BigBirdPegasus(EncoderDecoder):
    """Sparse attention above the threshold, full below it, and never both in one cell."""

    attention_paths: ClassVar[tuple[str, ...]] = (FAST, STOCK)
    kind = "bigbird_pegasus"
    config_class = "BigBirdPegasusConfig"
    model_class = "BigBirdPegasusForConditionalGeneration"
    defaults: ClassVar[Mapping[str, Any]] = {
        "max_position_embeddings": 4096,
        "block_size": 64,
        "num_random_blocks": 3,
        "attention_type": SPARSE,
    }
    sparse_length: int | None = None

    def check(
        self, config: Config, given: Config, seq_len: int, target_tokens: int, exits: Exits = None
    ) -> None:
        """See `Family.check`. An explicit block-sparse attention needs a minimum length."""
        super().check(config, given, seq_len, target_tokens, exits)
        if given.get("attention_type") == SPARSE and self._attention_type(config, seq_len) == FULL:
            raise ModelError(
                f"seq_len {seq_len} is too short for block-sparse attention, which needs more than "
                f"{self._threshold(config)} tokens ((5 + 2 x num_random_blocks) x block_size); "
                "leave attention_type out of the model's config to have full attention there, "
                "lengthen seq_len, or make the blocks smaller"
            )

    def regime(self, config: Config, seq_len: int) -> str | None:
        """See `Family.regime`."""
        return REGIMES[self._attention_type(config, seq_len)]

    def notes(self, config: Config, seq_len: int) -> list[str]:
        """See `Family.notes`. The plan of random blocks depends on the length."""
        found = super().notes(config, seq_len)
        if self._attention_type(config, seq_len) == FULL:
            return found
        old, other = "from the first 1,024 tokens", "by the plan for other lengths than those"
        where = old if seq_len in OLD_PLAN else other
        lengths = ", ".join(map(str, OLD_PLAN))
        return [
            *found,
            f"random blocks are drawn {where} ({lengths} have a plan of their own), "
            "and none are drawn in evaluation",
        ]

    def _adapt(self, built: Any, seq_len: int) -> None:
        kind = self._attention_type(built.config.to_dict(), seq_len)
        built.config.attention_type = kind
        built.get_encoder().set_attention_type(kind)
        self.sparse_length = seq_len if kind == SPARSE else None

    def _fast_path(self, built: Any) -> FastPath:
        from longwatt.models.attention import bigbird_pegasus, path

        return path.FastPath(built, bigbird_pegasus.encode, norm_first=True)

    def collate(self, chosen: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """See `Family.collate`. The sparse regime pads to the cell's length."""
        return super().collate(chosen, pad_to or self.sparse_length, targets)

    def _attention_type(self, config: Config, seq_len: int) -> str:
        asked = {**self.defaults, **config}["attention_type"]
        return SPARSE if asked == SPARSE and seq_len > self._threshold(config) else FULL

    def _threshold(self, config: Config) -> int:
        """Return the longest input with full attention."""
        random, size = self.whole(config, "num_random_blocks"), self.whole(config, "block_size")
        assert random is not None and size is not None, "they have defaults"
        return longest_full(random, size)


FAMILY = BigBirdPegasus
