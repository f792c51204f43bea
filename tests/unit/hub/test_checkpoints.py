"""Weights from a repository: which files, and pickled ones as safetensors, bit by bit."""

import io
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file

from longwatt.hub import client
from longwatt.hub.checkpoints import choose_model, choose_tokenizer
from longwatt.models.errors import ModelError
from longwatt.models.weights.download import convert_pickle, download_model
from tests.tiny_hub import bigbird_model, led_model, pickled

SHARDS = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
PICKLED_SHARDS = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
COMMIT = "a" * 40


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["config.json", "pytorch_model.bin", "tf_model.h5", "rust_model.ot"],
         ["config.json", "pytorch_model.bin"]),
        (["model.safetensors", "config.json", "pytorch_model.bin"],
         ["config.json", "model.safetensors"]),
        (["config.json", "generation_config.json", "model.safetensors"], None),
        (["config.json", "model.safetensors.index.json", *SHARDS], None),
        (["config.json", "pytorch_model.bin.index.json", *PICKLED_SHARDS], None),
        (["config.json", "model.safetensors.index.json", SHARDS[0], "pytorch_model.bin"],
         ["config.json", "pytorch_model.bin"]),
    ],
)  # fmt: skip
def test_only_what_is_needed_is_chosen(names, chosen):
    assert choose_model(names) == (chosen or names)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["model.safetensors"], r"no config\.json"),
        (["config.json", "tf_model.h5"], "no weights"),
        (["config.json", "model.safetensors.index.json", SHARDS[1]], "no weights"),
    ],
)
def test_what_is_no_model_is_named(names, said):
    with pytest.raises(LookupError, match=said):
        choose_model(names)


@pytest.mark.parametrize(
    ("names", "last"),
    [
        (
            ["tokenizer.json", "spiece.model", "tokenizer_config.json", "config.json"],
            ["tokenizer.json"],
        ),
        (["vocab.json", "merges.txt", "config.json"], ["vocab.json", "merges.txt"]),
        (["spiece.model", "config.json", "special_tokens_map.json"], ["spiece.model"]),
    ],
)
def test_a_tokenizers_vocabulary_comes_last(names, last):
    chosen = choose_tokenizer(names)
    assert chosen[-len(last) :] == last and not set(chosen) - set(names) and "config.json" in chosen


def test_a_repository_without_a_vocabulary_is_named():
    with pytest.raises(LookupError, match="it has no tokenizer"):
        choose_tokenizer(["config.json", "vocab.json"])


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror with an empty folder for the repository x/y."""
    monkeypatch.setenv(client.MIRROR, str(tmp_path / "mirror"))
    folder = tmp_path / "mirror/x/y"
    folder.mkdir(parents=True)
    return folder


def taken(tmp_path):
    """What download_model makes of it."""
    download_model({"repository": "x/y", "revision": COMMIT}, tmp_path / "out", {})
    return tmp_path / "out", json.loads((tmp_path / "out/model.json").read_text())


@pytest.mark.parametrize("make", [led_model, bigbird_model])
def test_pickled_weights_are_the_same_bits_as_safetensors(make, mirror, tmp_path):
    model = make()
    (mirror / "config.json").write_text(model.config.to_json_string())
    (mirror / "pytorch_model.bin").write_bytes(pickled(model))
    folder, facts = taken(tmp_path)
    assert (
        facts["origin"]["converted"] == ["pytorch_model.bin"]
        and facts["origin"]["revision"] == COMMIT
    )
    assert facts["origin"]["verified"] is False, "the mirror says nothing of it"
    assert set(facts["origin"]["files"]) == {"config.json", "pytorch_model.bin"}
    assert set(facts["sha256"]) == {"config.json", "model.safetensors"}
    again, said = type(model).from_pretrained(
        folder, local_files_only=True, output_loading_info=True
    )
    assert not any(said.values()), "nothing missing, nothing left over"
    one, other = model.state_dict(), again.state_dict()
    assert set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)
    assert other["lm_head.weight"].data_ptr() == again.get_input_embeddings().weight.data_ptr(), (
        "still tied"
    )
    assert len(load_file(folder / "model.safetensors")) < len(one), "and kept once"


def test_shards_of_pickled_weights_are_shards_of_safetensors(mirror, tmp_path):
    model = led_model()
    (mirror / "config.json").write_text(model.config.to_json_string())
    tensors = dict(model.named_parameters(remove_duplicate=True)) | {
        "final_logits_bias": model.final_logits_bias
    }
    halves = [dict(list(tensors.items())[n::2]) for n in (0, 1)]
    where = {}
    for name, half in zip(PICKLED_SHARDS, halves, strict=True):
        torch.save({key: value.detach() for key, value in half.items()}, mirror / name)
        where |= dict.fromkeys(half, name)
    (mirror / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": where})
    )
    folder, facts = taken(tmp_path)
    assert set(facts["sha256"]) == {"config.json", "model.safetensors.index.json", *SHARDS}
    again = type(model).from_pretrained(folder, local_files_only=True)
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items()
    )


def test_quantised_weights_of_a_repository_are_refused_before_they_are_converted(mirror, tmp_path):
    said = json.loads(led_model().config.to_json_string())
    said["quantization_config"] = {"quant_method": "gptq"}
    (mirror / "config.json").write_text(json.dumps(said))
    (mirror / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(ModelError, match=r"quantised weights .* quant_method gptq"):
        taken(tmp_path)
    assert not (tmp_path / "out").exists()


def test_what_is_no_part_of_a_tensor_is_not_stored(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save(
        {"a": whole, "view": whole[1], "transposed": whole.T, "empty": torch.zeros(0)},
        tmp_path / "x.bin",
    )
    convert_pickle(tmp_path / "x.bin", tmp_path / "x.safetensors")
    held = load_file(tmp_path / "x.safetensors")
    assert torch.equal(held["a"], whole) and torch.equal(held["view"], whole[1])
    assert torch.equal(held["transposed"], whole.T) and held["empty"].numel() == 0


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def saved(content) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def test_a_pickle_that_would_run_code_runs_none(tmp_path):
    for content in (
        pickle.dumps(Hostile(tmp_path / "ran")),
        saved({"a": Hostile(tmp_path / "ran")}),
        b"",
        b"x" * 99,
    ):
        (tmp_path / "x.bin").write_bytes(content)
        with pytest.raises(ModelError, match=r"x\.bin cannot be opened as weights alone"):
            convert_pickle(tmp_path / "x.bin", tmp_path / "x.safetensors")
    (tmp_path / "x.bin").write_bytes(saved({"state_dict": {"a": torch.zeros(1)}}))
    with pytest.raises(ModelError, match="holds something else than named tensors"):
        convert_pickle(tmp_path / "x.bin", tmp_path / "x.safetensors")
    assert not (tmp_path / "ran").exists() and not (tmp_path / "x.safetensors").exists()


def test_weights_in_the_clients_cache_take_no_second_room(tmp_path, monkeypatch):
    blob = tmp_path / "blob"
    blob.write_bytes(b"weights")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(client, "fetch", lambda *_: snapshot)
    folder, _ = taken(tmp_path)
    assert (folder / "model.safetensors").samefile(blob) and not (
        folder / "model.safetensors"
    ).is_symlink()
