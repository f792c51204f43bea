"""A tiny Llama as a GGUF file, as llama.cpp's converter writes it, with its tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny_hub import sentences

CHAT = "{% for message in messages %}<|user|>{{ message['content'] }}<|end|>{% endfor %}"
SPECIAL = ["<|none|>", "<|user|>", "<|end|>"]  # unknown, begin, end
VOCABULARY = 320
NORMAL, CONTROL = 1, 3
PLAIN_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def llama(tied: bool = False) -> LlamaForCausalLM:
    """Two layers, 32 wide, with fewer heads of keys than of queries."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=96,
        initializer_range=0.2, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        tie_word_embeddings=tied, rms_norm_eps=1e-5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def bpe() -> ByteLevelBPETokenizer:
    """Words of the tiny texts, and the tokens of a chat."""
    found = ByteLevelBPETokenizer()
    found.train_from_iterator(
        sentences(200), vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False
    )
    return found


def write_gguf(model: LlamaForCausalLM, file: Path, quantised: str = "F32", left_out: str = ""):
    """Write a model with the tokenizer of `bpe`, its matrices quantised or not.

    Args:
        left_out: the name of a tensor that the file is to lack.
    """
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _add_tokenizer(writer)
    kind = gguf.GGMLQuantizationType[quantised]
    for name, weight in model.state_dict().items():
        new = _name(name)
        if new == left_out or (new == "output.weight" and config.tie_word_embeddings):
            continue
        values = _permuted(new, weight, config).numpy().astype(np.float32)
        if values.ndim == 2 and quantised != "F32":
            writer.add_tensor(new, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(new, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer) -> None:
    import json

    said = json.loads(bpe()._tokenizer.to_str())["model"]
    tokens = sorted(said["vocab"], key=said["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in SPECIAL else NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in said["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT)


def _name(name: str) -> str:
    if name in PLAIN_NAMES:
        return PLAIN_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def _permuted(name: str, weight: torch.Tensor, config: LlamaConfig) -> torch.Tensor:
    """Reorder rows of queries and keys, whose halves llama.cpp interleaves to rotate them."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    count = next((n for part, n in heads.items() if part in name), 0)
    if not count:
        return weight
    rows, columns = weight.shape
    halves = weight.reshape(count, 2, rows // count // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
