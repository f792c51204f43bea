"""A cell of a decoder-only model: trained and predicted with the prompts of its study."""

import json
from dataclasses import replace

import pytest
import torch

from longwatt.config.documents import merge
from longwatt.inference.examples import CellExamples, layout_of
from longwatt.inference.predict import infer
from longwatt.jobs.worker import Spec
from longwatt.models.causal import Causal
from longwatt.study.cells import expand
from longwatt.study.settings import execution_settings, finetune_settings, probe_settings
from longwatt.tokens.prompt_templates import PromptError
from longwatt.tokens.special_tokens import load_split, load_tokenizer
from longwatt.training import probe_batch_size
from longwatt.training.finetune import train
from tests.needle_data import make_data
from tests.prompted_data import CHATML, byte_level
from tests.tiny_cell import inference_spec, made_from, tiny_study, training_spec

END_OF_TURN = 3
SHAPE = {
    "model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    found = tiny_study(tmp_path_factory.mktemp("study"))
    del found["models"]["led"]["config"]
    causal = {
        "family": "causal", "config": SHAPE, "chat": True,
        "prompt": "Read.\n\n{input}\n\n{query}",
        "training": {"max_steps": 2, "validation": {"every_steps": 2}},
    }  # fmt: skip
    return merge(found, {"models": {"led": causal}})


@pytest.fixture(scope="module")
def data(tmp_path_factory, study):
    """Its data, by a tokenizer with a chat template and no padding token."""
    folder = tmp_path_factory.mktemp("data")
    byte_level(CHATML, bos=True).save_pretrained(folder / "source")
    options = {"source": "needle", "options": study["datasets"]["needle"]["options"]}
    return make_data(folder, options, {"kind": "checkpoint", "path": str(folder / "source")})


LONG = {"seq_len": 128}


def test_inference_sees_what_training_saw_and_stops_at_the_end_of_a_turn(
    study, data, tmp_path, monkeypatch
):
    asked = []
    seen = Causal.predict
    monkeypatch.setattr(
        Causal, "predict", lambda self, *args: asked.append(args[-1]["stops"]) or seen(self, *args)
    )
    spec = training_spec(study, data, tmp_path, LONG)
    train(spec)
    point = inference_spec(study, data, tmp_path / "model", tmp_path / "point", LONG)
    infer(point)
    assert asked and all(stops == [END_OF_TURN, 1] for stops in asked)
    lines = (tmp_path / "point/predictions.jsonl").read_text().splitlines()
    rows = load_split(data / "tokens", "validation", None)
    trained = layout_of(spec.settings, load_tokenizer(data / "bpe"))
    examples = CellExamples(rows, trained, every_reference=False)
    loaded = load_tokenizer(tmp_path / "model")
    again = CellExamples(rows, layout_of(point.settings, loaded), every_reference=False)
    assert list(examples) == list(again) and loaded.pad_token_id is None
    tokens = [json.loads(line)["input_tokens"] for line in lines]
    assert tokens == [len(one.input_ids) for one in examples]
    text = loaded.decode(examples[0].input_ids)
    assert text.startswith("<|im_start|>user\nRead.\n\n")
    assert text.endswith("\n\nWhat is the secret code?<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seq_len": 24}, "seq_len 24 leaves no room for the document of 64 of 64 examples"),
        ({"prompt": {"chat": True, "template": "{input}" + " many words" * 80}}, "leaves no room"),
    ],
)  # fmt: skip
def test_a_prompt_that_fills_the_length_is_refused_before_training(
    study, data, tmp_path, changes, said
):
    with pytest.raises(PromptError, match=said):
        train(training_spec(study, data, tmp_path, merge(LONG, changes)))
    assert not list((tmp_path / "work/checkpoints").iterdir())
    assert not (tmp_path / "model").exists()


def test_a_split_whose_prompts_have_no_room_is_refused_before_training(study, data, tmp_path):
    """Not only when a paid training is to predict it."""
    cell = list(expand(study).values())[1]
    carried = execution_settings(study, cell)
    points = {"greedy": {"split": "validation", "generation": {"max_new_tokens": 20}}}
    longer = execution_settings(merge(study, {"inference": points}), cell)
    assert [one["answer_tokens"] for one in longer["predicted"]] == [20]
    spec = training_spec(study, data, tmp_path, LONG)
    rows = {"split": "test", "max_examples": None, "answer_tokens": 120}
    object.__setattr__(spec, "execution", {**carried, "predicted": [rows]})
    said = r"test could not be predicted later: seq_len 128 leaves no room .* and 120 are kept"
    with pytest.raises(PromptError, match=said):
        train(spec)
    assert not (tmp_path / "model").exists()


def test_a_chat_without_a_template_is_refused_before_training(study, data, tmp_path):
    byte_level().save_pretrained(tmp_path / "own")
    spec = training_spec(study, data, tmp_path, LONG)
    paths = {**spec.paths, "tokenizer": str(tmp_path / "own/tokenizer.json")}
    object.__setattr__(spec, "paths", paths)
    with pytest.raises(PromptError, match=f"the tokenizer in {tmp_path / 'own'} has no chat"):
        train(spec)
    assert not (tmp_path / "model").exists()


def test_a_budget_of_tokens_counts_prompts_with_their_answers(study, data, tmp_path, monkeypatch):
    shapes, loss = [], Causal.loss

    def noted(self, model, batch):
        if model.training:
            shapes.append(tuple(batch["input_ids"].shape))
        return loss(self, model, batch)

    monkeypatch.setattr(Causal, "loss", noted)
    train(training_spec(study, data, tmp_path / "examples", merge(LONG, {"seed": 3})))
    row = max(width for _, width in shapes)
    most = 4 * row - 1  # four prompts would fit, but not with their answers
    budget = {"per_device_batch_size": None, "max_tokens_per_batch": most}
    changes = merge(LONG, {"budget": budget, "training": {"max_steps": 4}})
    for packing, held in ((False, {(3, row)}), (True, {(1, 3 * row)})):
        shapes.clear()
        out = tmp_path / str(packing)
        train(training_spec(study, data, out, merge(changes, {"training": {"packing": packing}})))
        assert set(shapes) == held and len(shapes) == 4
        facts = json.loads((out / "training.json").read_text())
        assert facts["padded_input_tokens"] == 12 * row and facts["samples"] == 12
        assert facts["padding_share"] == 1 - facts["input_tokens"] / (12 * row)


def test_the_largest_batch_of_prompts_is_tried_with_answers_of_full_length(
    study, data, tmp_path, monkeypatch
):
    """An answer's room is kept in every prompt, in training and in validation."""
    lengths, predicted = [], []
    loss, predict = Causal.loss, Causal.predict

    def noted(self, model, batch):
        counted = "position_ids" if "position_ids" in batch else "input_ids"
        lengths.append(tuple(batch[counted].shape))
        return loss(self, model, batch)

    def noted_prediction(self, model, batch, how):
        found = predict(self, model, batch, how)
        predicted.append((len(batch["input_ids"]), {len(ids) for ids in found}))
        return found

    monkeypatch.setattr(Causal, "loss", noted)
    monkeypatch.setattr(Causal, "predict", noted_prediction)
    changed = merge(study, {"generation": {"max_new_tokens": 20}})
    for packing, size, shape in ((False, 1, (1, 128)), (True, 2, (1, 2 * 116 - 1))):
        lengths.clear()
        cell = replace(list(expand(changed).values())[1], seq_len=128)
        settings = finetune_settings(merge(changed, {"training": {"packing": packing}}), cell)
        paths = {**made_from(data), "work": str(tmp_path)}
        spec = Spec(probe_settings(settings), paths, {}, {}, "")
        probe_batch_size._steps(spec, size, torch.device("cpu"))
        assert set(lengths) == {shape}
    assert predicted == [(6, {20})]
