"""Prompts that cannot be meant are refused when the study is read."""

import json
import re

import pytest

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.models.led import FAMILY
from longwatt.study.checks import checked_stages
from longwatt.study.settings import score_settings
from longwatt.study.stages import Stages
from tests.conftest import TINY_STUDY

MODEL, DATASET = "    family: led\n", "    source: needle\n"


@pytest.fixture
def read(tmp_path, study_schema, monkeypatch):
    """Reads the tiny study, changed; its family takes prompts unless `prompted` is False."""

    def reader(*changes: tuple[str, str], prompted: bool = True) -> Stages:
        monkeypatch.setattr(FAMILY, "prompted", prompted)
        text = TINY_STUDY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "tiny.yaml").write_text(text)
        return checked_stages("tiny", read_study(tmp_path / "tiny.yaml", study_schema), {})

    return reader


def after(place: str, line: str) -> tuple[str, str]:
    return place, f"{place}    {line}\n"


def prompt_of(stages: Stages) -> dict:
    return stages.finetune(next(iter(stages.cells))).settings["prompt"]


def test_a_model_s_prompt_wins_over_its_dataset_s_and_both_over_the_default(read):
    assert prompt_of(read()) == {"template": "{query}\n\n{input}\n\n", "chat": False}
    data = after(DATASET, 'prompt: "{input} data"')
    assert prompt_of(read(data))["template"] == "{input} data"
    assert prompt_of(read(data, after(MODEL, 'prompt: "{input}!"')))["template"] == "{input}!"


def test_a_dataset_s_prompt_does_not_hinder_models_without(read):
    stages = read(after(DATASET, 'prompt: "{input} data"'), prompted=False)
    name = next(iter(stages.cells))
    settings = [stages.finetune(name), stages.predict(name, "greedy"), stages.score(name, "greedy")]
    assert not any("prompt" in stage.settings for stage in settings)
    assert "answer_tokens" not in settings[-1].settings


@pytest.mark.parametrize("place", [MODEL, DATASET], ids=["model", "dataset"])
@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{query}", "has no {input}; put it where the document is to stand"),
        ("", "prompt"),
        ("{inptu}", "unknown placeholder 'inptu' (did you mean 'input'?)"),
        ("{input} { query }", "has '{ query }', which is written {query}"),
        ("{input} {answer}", "unknown placeholder 'answer'"),
        ("{input} {question}", "a document is {input} here and its question {query}, whatever"),
        ("{input}{input}", "has {input} 2 times; the document can stand in one place"),
        ("{query}{input}{query}", "has {query} 2 times; its query can stand in one place"),
    ],
)
def test_a_template_without_a_place_or_with_others_is_refused(read, place, template, said):
    with pytest.raises(StudyError, match=re.escape(said)) as refused:
        read(after(place, f'prompt: "{template}"'))
    assert ("models.led" if place == MODEL else "datasets.needle") in str(refused.value)


def test_other_braces_are_text(read):
    template = '{input} Answer as JSON: {\\"code\\": [17, {}]}'
    assert prompt_of(read(after(MODEL, f'prompt: "{template}"')))["template"].endswith("[17, {}]}")


@pytest.mark.parametrize("line", ['prompt: "{input}"', "chat: true", "chat: false"])
def test_a_prompt_for_a_family_without_is_refused(read, line):
    key = line.split(":")[0]
    said = f"models.led.{key}: models of the family led have no prompts"
    with pytest.raises(StudyError, match=said):
        read(after(MODEL, line), prompted=False)


def test_a_chat_with_a_tokenizer_that_is_trained_here_is_refused(read):
    said = "models.led.chat is true, but tokenizers.bpe has no chat template .it is trained"
    with pytest.raises(StudyError, match=said):
        read(after(MODEL, "chat: true"))


def test_a_chat_needs_a_template_in_the_tokenizer_s_folder(read, tmp_path):
    folder, chat = tmp_path / "own", after(MODEL, "chat: true")
    own = ("{kind: byte_level_bpe, vocab_size: 600}", f"{{kind: checkpoint, path: {folder}}}")
    assert prompt_of(read(own, chat))["chat"], "nothing is known yet"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    said = f"no {folder}/chat_template.jinja, and no chat_template in {folder}/tokenizer_config"
    with pytest.raises(StudyError, match=said):
        read(own, chat)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}))
    assert prompt_of(read(own, chat))["chat"]
    (folder / "tokenizer_config.json").unlink()
    (folder / "chat_template.jinja").write_text("x")
    assert prompt_of(read(own, chat))["chat"]


TARGETS = "training: {max_target_tokens: 8}"


def test_a_length_that_its_answer_fills_is_refused(read):
    longer = (TARGETS, f"{TARGETS}\n    generation: {{max_new_tokens: 31}}")
    read(longer)
    said = "cell needle/led/32/.*: seq_len 32 leaves no room for a document beside the 32 tokens"
    with pytest.raises(StudyError, match=said):
        read((TARGETS, f"{TARGETS}\n    generation: {{max_new_tokens: 32}}"))
    point = "greedy: {split: validation, batch_size: 5"
    with pytest.raises(StudyError, match=said):
        read((point, f"{point}, generation: {{max_new_tokens: 32}}"))


def test_an_answer_has_its_end_alone_around_it(read):
    read((TARGETS, "training: {max_target_tokens: 2}"))
    with pytest.raises(StudyError, match="the tokenizer puts 2 special tokens around a text"):
        read((TARGETS, "training: {max_target_tokens: 2}"), prompted=False)
    read((TARGETS, f"{TARGETS}\n    generation: {{max_new_tokens: 1}}"))


def test_scores_depend_on_what_their_prompts_leave_of_the_documents(read):
    stages = read((TARGETS, f"{TARGETS}\n    generation: {{max_new_tokens: 12}}"))
    found = score_settings(stages.study, next(iter(stages.cells.values())), "greedy")
    assert (found["answer_tokens"], found["seq_len"]) == (12, 32)
    assert found["prompt"] == {"template": "{query}\n\n{input}\n\n", "chat": False}
