"""Models and tokenizers from GGUF files: equal weights, shapes known before, clear refusals."""

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from longwatt.hub import checkpoints
from longwatt.hub.gguf_header import config_of
from longwatt.models.errors import ModelError
from longwatt.models.weights.download import download_model
from longwatt.tokens.special_tokens import TokenizerError, load_tokenizer
from longwatt.tokens.tokenizers import make_tokenizer
from tests.tiny_gguf import CHAT, bpe, llama, write_gguf
from tests.tiny_hub import led_model, sentences

pytest.importorskip("gguf", reason="the reader of GGUF files is not installed")
IDS = torch.tensor([[1, 40, 57, 8, 200, 2]])


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "carrier"
    made.mkdir()
    return made


def converted(folder: Path, out: Path) -> dict:
    download_model({"path": str(folder)}, out, {})
    return json.loads((out / "model.json").read_text())


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_becomes_the_model_that_it_was_made_of(folder, tmp_path, tied):
    model = llama(tied)
    write_gguf(model, folder / "tiny.gguf")
    facts = converted(folder, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert again.dtype == torch.float32
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert {"config.json", "generation_config.json", "model.safetensors"} == set(facts["sha256"])
    assert facts["origin"]["converted"] == ["tiny.gguf"] == list(facts["origin"]["files"])
    assert [source["path"] for source in facts["sources"]] == ["tiny.gguf"]
    said = json.loads((tmp_path / "out/config.json").read_text())
    assert "quantization_config" not in said and said["tie_word_embeddings"] == tied


def test_quantised_weights_become_plain_ones_that_are_near(folder, tmp_path):
    model = llama()
    write_gguf(model, folder / "tiny.gguf", "Q4_1")
    converted(folder, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not getattr(again, "is_quantized", False)
    assert {weight.dtype for weight in again.parameters()} == {torch.float32}
    for name, weight in model.state_dict().items():
        off = (again.state_dict()[name] - weight).abs().max()
        # Sixteen steps between the least and the greatest of 32 weights.
        assert off <= (weight.max() - weight.min()) / 15
        assert (off == 0) == (weight.dim() == 1), name
    again(IDS).logits.sum().backward()
    assert all(weight.grad is not None for weight in again.parameters())


def test_a_conversion_gives_the_same_bytes_again(folder, tmp_path):
    write_gguf(llama(), folder / "tiny.gguf", "Q8_0")
    first, second = (converted(folder, tmp_path / name) for name in ("one", "two"))
    assert first["sha256"] == second["sha256"]


def test_the_shape_is_known_before(folder, tmp_path):
    write_gguf(llama(), folder / "tiny.gguf")
    entry = {"path": str(folder)}
    before = checkpoints.known_config(entry, tmp_path / "out")
    converted(folder, tmp_path / "out")
    after = checkpoints.known_config(entry, tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert {"model_type", "max_position_embeddings", "num_hidden_layers", "hidden_size",
            "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size",
            "tie_word_embeddings"} == set(before)  # fmt: skip
    write_gguf(llama(tied=True), tmp_path / "tied.gguf")
    assert config_of(tmp_path / "tied.gguf") == {**before, "tie_word_embeddings": True}


def test_a_file_of_endless_lists_tells_nothing(tmp_path):
    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q1sI", 1, b"x", 9)
    (tmp_path / "deep.gguf").write_bytes(head + struct.pack("<IQ", 9, 1) * 3000)
    (tmp_path / "long.gguf").write_bytes(head + struct.pack("<IQ", 8, 2**62))
    assert config_of(tmp_path / "deep.gguf") == config_of(tmp_path / "long.gguf") == {}


@pytest.mark.parametrize("kept", [0, 3, 40, 200])
def test_nothing_is_known_of_a_damaged_file_and_its_conversion_says_why(folder, tmp_path, kept):
    write_gguf(llama(), folder / "tiny.gguf")
    whole = (folder / "tiny.gguf").read_bytes()
    (folder / "tiny.gguf").write_bytes(whole[:kept])
    assert config_of(folder / "tiny.gguf") == {}
    with pytest.raises(ModelError, match=r"tiny\.gguf cannot be read as a causal language model"):
        converted(folder, tmp_path / "out")
    with pytest.raises(TokenizerError, match=r"tiny\.gguf: its tokenizer cannot be read"):
        make_tokenizer(
            {"kind": "checkpoint", "path": str(folder)}, tmp_path / "r", tmp_path / "own"
        )


def test_a_file_that_lacks_weights_is_refused(folder, tmp_path):
    write_gguf(llama(), folder / "tiny.gguf", left_out="blk.1.attn_v.weight")
    with pytest.raises(ModelError, match=r"lacks 1 weights .*layers\.1\.self_attn\.v_proj"):
        converted(folder, tmp_path / "out")


def test_several_files_are_refused_by_name(folder, tmp_path):
    for name in ("a.gguf", "b.gguf"):
        write_gguf(llama(), folder / name)
    with pytest.raises(ModelError, match=r"several GGUF files, .* must stay: a\.gguf, b\.gguf"):
        converted(folder, tmp_path / "out")


def test_safetensors_beside_it_go_first(folder, tmp_path):
    write_gguf(llama(), folder / "tiny.gguf")
    llama(tied=True).save_pretrained(folder)
    facts = converted(folder, tmp_path / "out")
    assert "converted" not in facts["origin"]
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is True


def test_without_its_reader_a_file_is_refused_with_the_command(folder, tmp_path, monkeypatch):
    write_gguf(llama(), folder / "tiny.gguf")
    here = {"gguf": None}
    monkeypatch.setattr(checkpoints, "find_spec", lambda name: here.get(name, find_spec(name)))
    said = r"tiny\.gguf: the Python package gguf, .* -m pip install --no-deps -r .*-causal\.txt"
    with pytest.raises(ModelError, match=said):
        converted(folder, tmp_path / "out")
    assert "requirements-causal.txt" in str(checkpoints.missing_tokenizer(folder))


def test_its_tokenizer_is_the_one_it_was_made_of_with_its_chat_template(folder, tmp_path):
    write_gguf(llama(), folder / "tiny.gguf")
    settings = {"kind": "checkpoint", "path": str(folder)}
    facts = make_tokenizer(settings, tmp_path / "records.jsonl", tmp_path / "own")
    own, made_of = load_tokenizer(tmp_path / "own"), bpe()
    for text in sentences(20, seed=1):
        assert own(text)["input_ids"] == made_of.encode(text).ids
        assert own.decode(own(text)["input_ids"]) == text
    assert own.eos_token == own.pad_token == "<|end|>" and own.bos_token == "<|user|>"
    chat = own.apply_chat_template([{"role": "user", "content": "ba"}], tokenize=False)
    assert chat == "<|user|>ba<|end|>" and own.chat_template == CHAT
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} == set(
        facts["sha256"]
    )
    assert [source["path"] for source in facts["sources"]] == ["tiny.gguf"]


def test_quantised_safetensors_are_refused(folder, tmp_path):
    led_model().save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    said["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match=r"quantised weights .* quant_method bitsandbytes"):
        converted(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
