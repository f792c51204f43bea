"""Tiny decoder-only models of several kinds, and examples for them."""

import random

import torch

from longwatt.models import load_family
from longwatt.models.family import Example

VOCABULARY = 200
END, PAD, START = 2, 1, 0
LLAMA_LIKE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
    "initializer_range": 0.3,
}  # fmt: skip
GEMMA = {**LLAMA_LIKE, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}
KINDS = {
    "llama": LLAMA_LIKE,
    "tied": {"model_type": "llama", **LLAMA_LIKE, "tie_word_embeddings": True},
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE,
    "mistral": {**LLAMA_LIKE, "sliding_window": 8},
    "gemma2": {**GEMMA, **LAYERS, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0},
    "gemma3_text": {**GEMMA, **LAYERS},
    "cohere": {**LLAMA_LIKE, "logit_scale": 0.0625},
    "granite": {**LLAMA_LIKE, "logits_scaling": 4.0},
    "gpt2": {
        "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    },
    "phi": {**LLAMA_LIKE, "num_key_value_heads": 4},
}  # fmt: skip
# Its attention softly caps its scores, which transformers' sdpa does not.
OWN = {"gemma2": {"attention": "eager"}}


class TinyTokenizer:
    """As much of a tokenizer as families ask for."""

    pad_token_id: int | None = PAD
    eos_token_id: int | None = END
    bos_token_id: int | None = START

    def __len__(self) -> int:
        return VOCABULARY

    def batch_decode(self, rows, **how):
        return [" ".join(map(str, row)) for row in rows]

    def clean_up_tokenization(self, text):
        return text


def entry_of(kind: str) -> dict:
    return {"model_type": kind, **KINDS[kind]}


def build(kind="llama", checkpoint=None, seq_len=64, tokenizer=None, config=None, **entry):
    """Build a family and a tiny model of a kind, in evaluation mode."""
    torch.manual_seed(0)
    family = load_family("causal")
    given = {"config": config if config or checkpoint else entry_of(kind), **OWN.get(kind, {})}
    model = family.build({**given, **entry}, tokenizer or TinyTokenizer(), checkpoint, seq_len, 8)
    return family, model.eval()


def examples(*sizes: tuple[int, int], seed: int = 0) -> list[Example]:
    """Make examples of so many tokens of prompt and of answer, the end included."""
    draw = random.Random(seed)

    def ids(count: int) -> list[int]:
        return [draw.randrange(5, VOCABULARY) for _ in range(count)]

    return [
        Example(str(number), [START, *ids(prompt - 1)], [*ids(answer - 1), END], ("x",))
        for number, (prompt, answer) in enumerate(sizes)
    ]


BATCH = ((20, 4), (5, 7), (33, 1), (12, 3))
OPTIONS = {
    "max_new_tokens": 6, "min_new_tokens": 0, "num_beams": 1, "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}  # fmt: skip
GREEDY = {"protocol": "generated", "generation": OPTIONS}
FORCED = {"protocol": "teacher_forced", "generation": OPTIONS}


def searched(**options) -> dict:
    """Options of a prediction that generates otherwise than GREEDY."""
    return {"protocol": "generated", "generation": {**OPTIONS, **options}}
