"""The family of decoder-only models: building, lengths, batches, and what is refused."""

import json

import pytest
import torch
from transformers import GenerationConfig

from longwatt.models import load_family
from longwatt.models.attention.linear import FastLinear
from longwatt.models.errors import ModelError
from longwatt.models.family import IGNORED, Answer
from longwatt.models.weights.download import download_model
from longwatt.tasks import TEXT
from tests.unit.models.causal_models import (
    BATCH,
    END,
    GREEDY,
    KINDS,
    PAD,
    START,
    TinyTokenizer,
    build,
    entry_of,
    examples,
)


class WithoutPadding(TinyTokenizer):
    pad_token_id = None


class WithoutEnd(TinyTokenizer):
    eos_token_id = None


def test_the_family_says_what_it_is_without_torch():
    family = load_family("causal")
    assert (family.task, family.prompted, family.packs) == (TEXT, True, True)
    assert family.attention_paths == ("sdpa", "eager", "flash", "flex")


@pytest.mark.parametrize("kind", KINDS)
def test_any_decoder_only_model_learns_and_comes_back_from_its_folder(kind, tmp_path):
    family, model = build(kind)
    batch = family.collate(examples(*BATCH), None, None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = family.loss(model, batch).item()
    for _ in range(5):
        family.loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = family.loss(model, batch).item()
    assert after < before
    model.save_pretrained(tmp_path / "saved")
    download_model({"path": str(tmp_path / "saved")}, tmp_path / "resources", {})
    again, loaded = build(kind, tmp_path / "resources")
    assert again.loss(loaded, batch).item() == after
    assert again.predict(loaded, batch, GREEDY) == family.predict(model, batch, GREEDY)


def test_a_batch_is_prompts_with_their_answers():
    family, _ = build()
    batch = family.collate(examples((3, 2), (5, 3)), None, None)
    first, second = examples((3, 2), (5, 3))
    assert batch["input_ids"].tolist() == [
        [*first.input_ids, *first.labels, PAD, PAD, PAD],
        [*second.input_ids, *second.labels],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] * 8]
    assert batch["labels"].tolist() == [
        [*[IGNORED] * 3, *first.labels, *[IGNORED] * 3],
        [*[IGNORED] * 5, *second.labels],
    ]
    assert family.collate(examples((3, 2)), 12, 7)["labels"].shape == (1, 12)


def test_a_tokenizer_without_padding_will_do():
    family, model = build(tokenizer=WithoutPadding())
    own, other = build()
    assert (family.pad_token_id, model.config.pad_token_id) == (END, None)
    model.load_state_dict(other.state_dict())
    by_end, by_pad = (one.collate(examples(*BATCH), None, None) for one in (family, own))
    assert torch.equal(family.loss(model, by_end), own.loss(other, by_pad))
    assert family.predict(model, by_end, GREEDY) == own.predict(other, by_pad, GREEDY)


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        build(tokenizer=WithoutEnd())


def test_an_answer_ends_at_the_tokenizer_s_end_and_at_the_checkpoint_s(tmp_path):
    _, model = build()
    model.generation_config = GenerationConfig(eos_token_id=[7, 9], do_sample=True, temperature=2.0)
    model.save_pretrained(tmp_path)
    family, loaded = build(checkpoint=tmp_path)
    assert family.ends == (END, 7, 9)
    said = loaded.generation_config
    assert (said.eos_token_id, said.pad_token_id, said.bos_token_id) == ([END, 7, 9], PAD, START)
    assert not said.do_sample and said.temperature in (None, 1.0)
    loaded.save_pretrained(tmp_path / "trained")
    assert build(checkpoint=tmp_path / "trained")[0].ends == (END, 7, 9)


def test_answers_count_what_was_generated_and_leave_ends_out_of_the_text():
    family, _ = build()
    assert family.answers([[5, 6, END], [8, 9], [END]], TinyTokenizer()) == [
        Answer("5 6", 3),
        Answer("8 9", 2),
        Answer("", 1),
    ]


def check(config, seq_len=64, targets=8, given=None, **more):
    load_family("causal").check(
        config, config if given is None else given, seq_len, targets, **more
    )


@pytest.mark.parametrize(
    ("config", "seq_len", "said"),
    [
        ({"model_type": "gpt2", "n_positions": 1024}, 1025, "n_positions of 1024; lower it"),
        ({"max_position_embeddings": 2048}, 2049, "max_position_embeddings of 2048; lower it"),
        (
            {
                "max_position_embeddings": 2048,
                "rope_scaling": {"type": "linear", "factor": 2.0},
            },
            4097,
            "2048, 4096 by its scaling of positions",
        ),
        (
            {
                "max_position_embeddings": 100,
                "rope_parameters": {"rope_type": "default", "factor": 9.0},
            },
            101,
            "of 100; lower",
        ),
    ],
)
def test_a_length_beyond_the_positions_is_refused(config, seq_len, said):
    with pytest.raises(ModelError, match=said):
        check(config, seq_len)
    check(config, seq_len - 1)


def test_what_the_study_gives_for_positions_counts():
    read = {"n_positions": 1024, "max_position_embeddings": 4096}
    check(read, 2048, given={"max_position_embeddings": 4096})
    with pytest.raises(ModelError, match="n_positions of 1024"):
        check({"n_positions": 1024}, 2048, given={})


def test_positions_that_were_stretched_before_training_are_not_stretched_again():
    stretched = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    config = {"max_position_embeddings": 131072, "rope_parameters": stretched}
    check(config, 131072)
    with pytest.raises(ModelError, match="131072; lower"):
        check(config, 131073)


def test_a_model_without_positions_takes_any_length():
    check({"model_type": "bloom"}, 10**6)


@pytest.mark.parametrize("targets", [64, 65])
def test_a_length_without_room_for_a_prompt_is_refused(targets):
    with pytest.raises(ModelError, match="seq_len 64 leaves no room for a prompt"):
        check({}, 64, targets)
    check({}, 64, 63)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "led"}, "say `family: led`"),
        ({"model_type": "bart", "is_encoder_decoder": True}, "say `family: seq2seq`"),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantised \(gptq\).*checkpoint that"),
    ],
)
def test_what_is_no_decoder_only_model_is_refused_without_building(config, said):
    with pytest.raises(ModelError, match=said):
        check(config)


def test_exits_are_refused():
    with pytest.raises(ModelError, match="`exits` is for encoders"):
        check({}, exits={"layers": [0]})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"hidden_size": 16}, "needs the model's config to name a model_type; None is none"),
        ({"model_type": "lama"}, r"'lama' is none \(did you mean 'llama'\?\)"),
        ({"model_type": "bart"}, "'bart' are encoder-decoders; say `family: seq2seq`"),
        ({"model_type": "t5"}, "'t5' are encoder-decoders"),
        ({"model_type": "gemma3"}, "joins several; name its text model alone"),
        ({**entry_of("llama"), "hiden_size": 8}, r"'hiden_size' \(did you mean 'hidden_size'\?\)"),
        ({**entry_of("llama"), "vocab_size": 199}, "200 tokens but the model's vocab_size is 199"),
        ({**entry_of("llama"), "max_position_embeddings": 32}, "seq_len 64 is above"),
        ({**entry_of("gpt2"), "n_positions": 32}, "n_positions of 32"),
        (
            {
                "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 0.3,
            },
            "BertLMHeadModel lets tokens see those after them",
        ),
        (
            {
                "model_type": "rwkv", "hidden_size": 16, "num_hidden_layers": 2,
                "attention_hidden_size": 16, "attention": "eager",
            },
            "otherwise when padding stands before it",
        ),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_built_says_why(config, said):
    path = {"attention": config["attention"]} if "attention" in config else {}
    given = {key: value for key, value in config.items() if key != "attention"}
    with pytest.raises(ModelError, match=said):
        build(config=given, **path)


def test_a_checkpoint_of_another_kind_or_quantised_or_of_an_adapter_is_refused(tmp_path):
    def folder(name, file, **held):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(held))
        return tmp_path / name

    quantised = folder("q", "config.json", model_type="llama", quantization_config={"bits": 4})
    with pytest.raises(ModelError, match="weights are quantised, which"):
        build(checkpoint=quantised)
    with pytest.raises(ModelError, match="say `family: led`"):
        build(checkpoint=folder("led", "config.json", model_type="led"))
    adapter = folder("a", "adapter_config.json", base_model_name_or_path="some/base")
    said = r"an adapter and no model; name its base \(some/base\)"
    with pytest.raises(ModelError, match=said):
        build(checkpoint=adapter)
    with pytest.raises(ModelError, match=said):
        download_model({"path": str(adapter)}, tmp_path / "resources", {})


def test_positions_that_a_checkpoint_has_no_weights_for_are_refused(tmp_path):
    _, model = build("gpt2")
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="weights of other sizes than the model's config says"):
        build(checkpoint=tmp_path, config={"n_positions": 256})


def test_pickled_weights_are_never_opened(tmp_path):
    _, model = build()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        build(checkpoint=tmp_path)


def test_a_sliding_window_that_the_length_reaches_beyond_is_noted():
    family, model = build("gemma3_text")
    config = model.config.to_dict()
    assert family.notes(config, 8) == []
    (note,) = family.notes(config, 9)
    assert note == "sliding window: in 1 of 2 layers a token sees only 8 tokens up to itself"
    assert family.facts(config) == {"sliding_window": 8}
    assert family.regime(config, 64) is None, "one model at all lengths"


def test_every_layer_of_mistral_has_the_window_and_other_models_none():
    family, model = build("mistral")
    assert "in 2 of 2 layers" in family.notes(model.config.to_dict(), 64)[0]
    family, model = build("qwen2")
    assert family.facts(model.config.to_dict()) == {}
    assert family.facts({"sliding_window": 8, "use_sliding_window": False}) == {}


@pytest.mark.parametrize(
    ("precision", "faster"), [("fp32", True), ("tf32", True), ("bf16", False), ("fp16", False)]
)
def test_linear_layers_become_faster_on_a_cpu_in_float32(precision, faster, monkeypatch):
    monkeypatch.setattr("longwatt.models.attention.linear.WORTH_IT", 0)
    family, model = build("llama")
    batch = family.collate(examples(*BATCH), None, None)
    names, before = list(model.state_dict()), family.loss(model, batch)
    before.backward()
    slow = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    placed = family.place(model, torch.device("cpu"), precision)
    kinds = {type(part) for part in placed.modules() if isinstance(part, torch.nn.Linear)}
    assert placed is model and list(model.state_dict()) == names
    assert kinds == ({FastLinear} if faster else {torch.nn.Linear})
    after = family.loss(model, batch)
    after.backward()
    assert float(after) == pytest.approx(float(before), rel=1e-6)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, slow[name], rtol=1e-5, atol=1e-6, msg=name)


def test_linear_layers_stay_as_they_are_without_onednn(monkeypatch):
    monkeypatch.setattr("longwatt.models.attention.linear.has_onednn", lambda: False)
    family, model = build("llama")
    placed = family.place(model, torch.device("cpu"), "fp32")
    assert not any(isinstance(part, FastLinear) for part in placed.modules())
