"""The family of encoders with exits: refusals, collation, and its use in plain Python."""

import json
import shutil
from statistics import median

import pytest
import torch
from bench import early_exit as bench
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from longwatt.models import family_names, load_family
from longwatt.models.early_exit import EarlyExit, exit_kind
from longwatt.models.errors import ModelError
from longwatt.models.exits.classifier import ExitClassifier
from longwatt.models.exits.encoder_config import depth, most_tokens
from longwatt.models.exits.rules import ExitRule, ExitRuleError, check_temperatures, exit_rule
from longwatt.models.family import Example
from longwatt.tokens.special_tokens import load_tokenizer

TINY = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 32, "initializer_range": 0.3,
}  # fmt: skip
EXITS = {"layers": [0, 2]}
LABELS = ("bad", "good")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{n}" for n in range(36))]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Threads that wait for each other cost more than models as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    made = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=32, **names).save_pretrained(
        folder
    )
    return load_tokenizer(folder)


def build(tokenizer, exits=EXITS, config=None, checkpoint=None, labels=LABELS, seq_len=16):
    torch.manual_seed(0)
    family = load_family("early_exit")
    entry = {"config": TINY if config is None else config, "exits": exits}
    return family, family.build(entry, tokenizer, checkpoint, seq_len, 1, labels).eval()


def example(tokenizer, name: str, text: str, label: int, second: str | None = None) -> Example:
    start = None if second is None else len(tokenizer(text)["input_ids"])
    return Example(name, tokenizer(text, second)["input_ids"], [label], (LABELS[label],), start)


def test_the_family_is_found_and_what_it_is_made_of_is_not():
    assert "early_exit" in family_names()
    assert not {"exit_model", "exit_inference", "layerwise", "encoders"} & set(family_names())


def check(exits, config=TINY, seq_len=16) -> None:
    EarlyExit().check(config, config, seq_len, 1, exits)


@pytest.mark.parametrize(
    ("exits", "said"),
    [
        (None, "needs `exits`"),
        ({}, "layers must be a list"),
        ({"layers": []}, "layers must be a list"),
        ({"layers": 2}, "layers must be a list of encoder layers, counted from 0, but is 2"),
        ({"layers": [0, 3]}, "layers has 3, but the encoder has 3 layers, 0 to 2"),
        ({"layers": [2, 0]}, r"layers must ascend; say \[0, 2\]"),
        ({"layers": [0, 1, 1]}, "layers names 1 more than once"),
        ({"layers": [-1, 0]}, "whole numbers from 0, but one is -1"),
        ({"layers": [0, True]}, "whole numbers from 0, but one is True"),
        ({"layers": [0], "layer_weights": "frozen"}, "did you mean 'frozen_random'"),
        ({"layers": [0], "layer_weight": "learned"}, "unknown key 'layer_weight'.*'layer_weights'"),
        (
            {"layers": [0, 1], "temperatures": [1.0]},
            "temperatures has 1 values, but there are 2 classifiers",
        ),
        ({"layers": [0, 1], "temperatures": [1.0, 0]}, "must be positive numbers, but one is 0"),
        (
            {"layers": [0], "temperatures": [float("nan")]},
            "must be positive numbers, but one is nan",
        ),
    ],
)
def test_exits_that_cannot_be_are_refused_without_torch(exits, said):
    with pytest.raises(ModelError, match=said):
        check(exits)


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layers"])
def test_the_depth_is_known_whatever_it_is_called(key):
    config = {"model_type": "distilbert" if key == "n_layers" else "bert", key: 5}
    check({"layers": [4]}, config)
    with pytest.raises(ModelError, match="has 5 layers"):
        check({"layers": [5]}, config)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_what_is_known_at_parse_time_is_what_transformers_says(kind):
    config = AutoConfig.for_model(kind)
    assert depth({"model_type": kind}) == config.num_hidden_layers
    assert most_tokens({"model_type": kind}) == most_tokens(config.to_dict())


def test_where_the_depth_is_not_known_layers_are_checked_when_it_is():
    check({"layers": [0, 900]}, {"model_type": "unheard_of"})


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "bert", "max_position_embeddings": 32}, 32),
        ({"model_type": "roberta", "max_position_embeddings": 34, "pad_token_id": 1}, 32),
        ({"model_type": "roberta", "max_position_embeddings": 34, "pad_token_id": 0}, 33),
    ],
)
def test_inputs_longer_than_the_encoder_holds_are_refused(config, most):
    check({"layers": [0]}, config, most)
    with pytest.raises(ModelError, match=f"seq_len {most + 1} is above .* lower it to {most}"):
        check({"layers": [0]}, config, most + 1)


def test_one_exit_is_a_baseline():
    kinds = [exit_kind(layers, 3) for layers in ([0, 2], [2], [1])]
    assert kinds == ["early_exit", "standard", "efficient"]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (None, ExitRule("last")),
        ({"threshold": 1}, ExitRule("threshold", 1.0)),
        ({"patience": 2}, ExitRule("patience", 2)),
        ({"oracle": True}, ExitRule("oracle")),
    ],
)
def test_a_rule_is_read(given, rule):
    assert exit_rule(given) == rule


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"threshold": 0}, "threshold must be a number above 0 and at most 1, but is 0"),
        ({"threshold": 1.01}, "but is 1.01"),
        ({"threshold": float("nan")}, "but is nan"),
        ({"threshold": "0.9"}, "but is '0.9'"),
        ({"threshold": True}, "but is True"),
        ({"patience": 0}, "patience must be a whole number from 1, but is 0"),
        ({"patience": 1.5}, "but is 1.5"),
        ({"oracle": False}, "oracle must be true"),
        ({"treshold": 0.9}, r"unknown key 'treshold' \(did you mean 'threshold'\?\)"),
        ({"threshold": 0.9, "patience": 2}, "threshold and patience exclude each other"),
    ],
)
def test_a_rule_that_cannot_be_followed_names_key_and_value(given, said):
    with pytest.raises(ExitRuleError, match=said):
        exit_rule(given)


def test_temperatures_are_one_for_each_classifier():
    assert check_temperatures([1, 2.5], 2) == [1.0, 2.5]
    with pytest.raises(ExitRuleError, match="one is None"):
        check_temperatures(None, 2)


def test_a_batch_is_padded_and_knows_its_second_texts(tokenizer):
    family, _ = build(tokenizer)
    paired, single = example(tokenizer, "a", "w1 w2", 1, "w3"), example(tokenizer, "b", "w4", 0)
    batch = family.collate([paired, single], None, None)
    assert batch["input_ids"].tolist() == [[2, 5, 6, 3, 7, 3], [2, 8, 3, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1], [0] * 6]
    assert batch["labels"].tolist() == [[1], [0]] and batch["labels"].dtype == torch.long
    assert family.collate([single], 10, None)["input_ids"].shape == (1, 10)


def test_an_encoder_without_segments_gets_none(tokenizer):
    config = {"model_type": "distilbert", "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 16}
    family, model = build(tokenizer, config=config)
    batch = family.collate([example(tokenizer, "a", "w1 w2", 1, "w3")], None, None)
    assert "token_type_ids" not in batch
    assert family.predict(model, batch, {"exit": None, "batch_size": 1})[0].layers == 3


def test_answers_say_where_they_left(tokenizer):
    family, model = build(tokenizer)
    examples = [example(tokenizer, str(n), f"w{n} w{n + 1}", n % 2) for n in range(6)]
    batch = family.collate(examples, None, None)
    how = {"exit": {"threshold": 0.7}, "batch_size": 2, "uncalibrated": True}
    answers = family.answers(family.predict(model, batch, how), tokenizer)
    logits = family.exit_logits(model, batch).softmax(-1)
    for number, answer in enumerate(answers):
        exit_ = answer.facts["exit"]
        found = logits[exit_, number]
        assert answer.text == LABELS[int(found.argmax())] and answer.output_tokens == 1
        assert answer.facts["layers"] == (1, 3)[exit_]
        assert answer.facts["confidence"] == pytest.approx(found.max().item(), abs=1e-5)
        json.dumps(dict(answer.facts))
    with pytest.raises(ModelError, match="no temperatures"):
        family.predict(model, batch, {"exit": {"threshold": 0.7}, "batch_size": 2})
    with pytest.raises(ModelError, match="threshold must be"):
        family.predict(model, batch, {"exit": {"threshold": 2}, "batch_size": 2})


def test_a_trained_model_is_built_from_its_folder(tokenizer, tmp_path):
    family, model = build(tokenizer)
    model.save_pretrained(tmp_path)
    batch = family.collate([example(tokenizer, "a", "w1 w2", 1)], None, None)
    again = load_family("early_exit")
    loaded = again.build({}, tokenizer, tmp_path, 16, 1).eval()
    held = loaded.state_dict()
    assert all(torch.equal(held[name], tensor) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(again.exit_logits(loaded, batch), family.exit_logits(model, batch))
    with pytest.raises(ModelError, match="seq_len 33 is above"):
        load_family("early_exit").build({}, tokenizer, tmp_path, 33, 1)
    with pytest.raises(ModelError, match=r"tells \['bad', 'good'\] apart"):
        load_family("early_exit").build({}, tokenizer, tmp_path, 16, 1, ("no", "yes"))


def test_a_checkpoint_is_taken_with_its_pooler_and_says_where_it_has_none(tokenizer, tmp_path):
    torch.manual_seed(1)
    source = AutoModel.from_config(AutoConfig.for_model(**TINY, vocab_size=len(tokenizer)))
    source.save_pretrained(tmp_path / "with")
    family, model = build(tokenizer, config={}, checkpoint=tmp_path / "with")
    assert torch.equal(model.dense.weight, source.pooler.dense.weight)
    assert family.notes(model.config.to_dict(), 16) == []
    AutoModel.from_config(source.config, add_pooling_layer=False).save_pretrained(
        tmp_path / "without"
    )
    family, model = build(
        tokenizer, {"layers": [0], "layer_weights": "frozen_random"}, {}, tmp_path / "without"
    )
    pooler, weights = family.notes(model.config.to_dict(), 16)
    assert "pooler began with random weights" in pooler and "frozen random unit vectors" in weights


@pytest.mark.parametrize(
    ("config", "labels", "said"),
    [
        ({**TINY, "vocab_size": 10}, LABELS, "40 tokens but the model's vocab_size is 10"),
        (
            {**TINY, "hiden_size": 16},
            LABELS,
            r"unknown key 'hiden_size' \(did you mean 'hidden_size'\?\)",
        ),
        ({**TINY, "model_type": "brt"}, LABELS, r"'brt' is none \(did you mean"),
        (TINY, ("good",), "two labels at least"),
    ],
)
def test_a_model_that_cannot_be_built_says_why(tokenizer, config, labels, said):
    with pytest.raises(ModelError, match=said):
        build(tokenizer, config=config, labels=labels)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    _, model = build(tokenizer)
    path = tmp_path_factory.mktemp("trained")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_saved_model_answers_in_plain_python(folder, tokenizer):
    classifier = ExitClassifier.load(folder, temperatures=[1.0, 2.0])
    texts = [*(f"w{n} w{n + 7}" for n in range(9)), ("w1 w2", "w3")]
    first = classifier.predict(texts, patience=1)
    half = median(answer.confidence for answer in first)
    alone = classifier.predict(texts, threshold=half)
    together = classifier.predict(texts, threshold=half, batch_size=4)
    seen = [[(one.label, one.exit, one.layers) for one in answers] for answers in (alone, together)]
    assert seen[0] == seen[1]
    assert {a.exit for a in alone} == {0, 1} and {a.label for a in alone} <= set(LABELS)
    assert all(a.layers == (1, 3)[a.exit] and (a.exit == 1 or a.confidence >= half) for a in alone)
    assert {a.exit for a in first} == {0}
    assert {a.exit for a in classifier.predict(texts)} == {1}
    assert classifier.predict([]) == []


def test_plain_python_cuts_as_the_tokenizer_does(folder):
    classifier = ExitClassifier.load(folder)
    long = " ".join(f"w{n % 30}" for n in range(100))
    (whole,), (cut,) = classifier.predict([long]), classifier.predict([" ".join(long.split()[:14])])
    assert whole == cut, "seq_len 16 of the training, two of them special"
    (short,), (kept,) = (
        classifier.predict([long], max_length=6),
        classifier.predict([" ".join(long.split()[:4])]),
    )
    assert short == kept


def test_a_folder_knows_the_length_it_was_trained_at(folder, tmp_path, tokenizer):
    config = json.loads((folder / "config.json").read_text())
    assert config["seq_len"] == 16
    _, again = build(tokenizer, checkpoint=folder, seq_len=20)
    assert again.config.seq_len == 20, "trained on at another length"
    used = load_family("early_exit").build({}, tokenizer, folder, 20, 1)
    assert used.config.seq_len == 16, "only used"
    shutil.copytree(folder, tmp_path / "older")
    del config["seq_len"]
    (tmp_path / "older/config.json").write_text(json.dumps(config))
    older, long = ExitClassifier.load(tmp_path / "older"), [f"w{n}" for n in range(36)]
    (whole,), (cut,) = older.predict([" ".join(long)]), older.predict([" ".join(long[:30])])
    assert whole == cut != older.predict([" ".join(long[:14])])[0], "as many as the encoder holds"


@pytest.mark.parametrize(
    ("texts", "length", "said"),
    [
        (["w1"], 33, "max_length 33 is above the 32 tokens that the encoder holds"),
        (
            ["w1"],
            2,
            "max_length 2 leaves no room for text beside 2 special tokens; it must be at least 3",
        ),
        (["w1"], 0, "at least 3"),
        (["w1", ("w1", "w2")], 4, "beside 3 special tokens; it must be at least 5"),
    ],
)
def test_plain_python_refuses_lengths_that_cannot_be(folder, texts, length, said):
    with pytest.raises(ValueError, match=said):
        ExitClassifier.load(folder).predict(texts, max_length=length)


def test_plain_python_takes_the_least_and_the_greatest_length(folder):
    classifier, long = ExitClassifier.load(folder), " ".join(f"w{n}" for n in range(36))
    assert classifier.predict([long], max_length=3) == classifier.predict(["w0"])
    assert classifier.predict([(long, long)], max_length=5) == classifier.predict([("w0", "w0")])
    assert len(classifier.predict([long], max_length=32)) == 1


def test_plain_python_takes_no_text_for_a_list(folder):
    with pytest.raises(TypeError, match=r"texts must be a list; pass \[text\]"):
        ExitClassifier.load(folder).predict("w1 w2")


def test_plain_python_refuses_what_cannot_be(folder, tmp_path):
    classifier = ExitClassifier.load(folder)
    with pytest.raises(ModelError, match="no temperatures: calibrate first"):
        classifier.predict(["w1"], threshold=0.9)
    with pytest.raises(ExitRuleError, match=r"but is 1\.2"):
        classifier.predict(["w1"], threshold=1.2)
    with pytest.raises(ExitRuleError, match="exclude each other"):
        classifier.predict(["w1"], threshold=0.9, patience=1)
    with pytest.raises(ExitRuleError, match="temperatures has 1 values"):
        ExitClassifier.load(folder, temperatures=[1.0])
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="kind 'bert', not one with exits"):
        ExitClassifier.load(tmp_path)


def test_the_bench_measures_every_arm(tmp_path, capsys):
    words = [
        "--shape",
        "tiny",
        "--length",
        "8",
        "--seconds",
        "0",
        "--batches",
        "2",
        "--threads",
        "1",
    ]
    bench.main([*words, "--out", str(tmp_path / "out.json")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert [row["layers"] for row in result["batch_1"]] == [4, 1, 2, 3, 4]
    assert result["equal_predictions"]["equal"] == result["equal_predictions"]["of"] > 0
    regrouped = result["batch_32"][0]
    layers = 0.4 * 1 + 0.25 * 2 + 0.2 * 3 + 0.15 * 4
    assert regrouped["mean_layers"] == pytest.approx(layers, abs=0.1)
    rows = (*result["batch_1"], *result["batch_32"])
    assert all(row["rounds"] >= 5 and row["seconds"] > 0 for row in rows)
    printed = capsys.readouterr().out
    assert printed.count("PASS") + printed.count("FAIL") == len(result["batch_1"]) + 2


@pytest.mark.parametrize("path", ["sdpa", "eager"])
def test_an_encoder_attends_by_the_path_that_is_asked_for(tokenizer, path):
    family, stock = build(tokenizer)
    asked = load_family("early_exit")
    entry = {"config": TINY, "exits": EXITS, "attention": path}
    torch.manual_seed(0)
    model = asked.build(entry, tokenizer, None, 16, 1, LABELS).eval()
    asked.place(model, torch.device("cpu"), "fp32")
    assert (asked.attention, model.encoder.config._attn_implementation) == (path, path)
    batch = family.collate([example(tokenizer, "a", "w1 w2 w3", 1)], None, None)
    torch.testing.assert_close(asked.exit_logits(model, batch), family.exit_logits(stock, batch))


@pytest.mark.parametrize("path", ["flash", "flex"])
def test_a_path_that_a_cpu_lacks_is_refused_for_encoders_too(tokenizer, path):
    family = load_family("early_exit")
    entry = {"config": TINY, "exits": EXITS, "attention": path}
    with pytest.raises(ModelError, match=f"`attention: {path}` is asked for, but "):
        model = family.build(entry, tokenizer, None, 16, 1, LABELS)
        family.place(model, torch.device("cpu"), "fp32")
