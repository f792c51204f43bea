"""Model families: any encoder-decoder, BigBird-Pegasus and its two regimes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from longwatt import models
from longwatt.models import family_names, load_family
from longwatt.models.errors import ModelError
from longwatt.models.family import Example
from longwatt.models.led import LED
from longwatt.models.weights.download import download_model
from longwatt.tokens.special_tokens import load_tokenizer
from tests.needle_data import make_needle_data

BART_LIKE = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
    "max_position_embeddings": 128, "init_std": 0.3,
}  # fmt: skip
BART = {"model_type": "bart", **BART_LIKE}
T5_LIKE = {
    "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
    "initializer_factor": 20.0,
}  # fmt: skip
KINDS = {
    "bart": BART_LIKE,
    "t5": T5_LIKE,
    "longt5": {
        **T5_LIKE, "local_radius": 8, "encoder_attention_type": "transient-global",
        "global_block_size": 4,
    },
    "pegasus_x": {**BART_LIKE, "block_size": 16, "num_global_tokens": 4},
}  # fmt: skip
# Sparse above (5 + 2 x 1) x 4 = 28 tokens.
BIGBIRD = {**BART_LIKE, "encoder_layers": 2, "block_size": 4, "num_random_blocks": 1}
GREEDY = {
    "max_new_tokens": 6, "min_new_tokens": 0, "num_beams": 1, "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}  # fmt: skip
GENERATED = {"protocol": "generated", "generation": GREEDY}
FORCED = {"protocol": "teacher_forced", "generation": GREEDY}
SHORT = Example("a", [0, 5, 6, 7, 2], [0, 8, 2], ("x",))
LONG = Example("b", [0, *range(10, 50), 2], [0, 8, 9, 10, 2], ("y",))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    options = {"words_per_document": 40, "train": 32, "validation": 4, "test": 4}
    folder, words = tmp_path_factory.mktemp("data"), {"vocab_size": 500, "min_frequency": 2}
    data = make_needle_data(folder, options, words)
    return load_tokenizer(data / "bpe")


def build(tokenizer, family, config, checkpoint: Path | None = None, seq_len: int = 64, **entry):
    torch.manual_seed(0)
    made = load_family(family)
    return made, made.build({"config": config, **entry}, tokenizer, checkpoint, seq_len, 8).eval()


def test_families_are_found_by_their_modules():
    assert {"led", "bigbird_pegasus", "seq2seq"} <= set(family_names())
    assert not {"family", "errors", "encoder_decoder", "download"} & set(family_names())


def test_a_package_is_a_family_too_and_a_mention_makes_none(tmp_path, monkeypatch):
    texts = {
        "whole/__init__.py": "from longwatt.models.led import FAMILY",
        "typed.py": "FAMILY: type = dict",
        "mentions.py": '"""\nFAMILY is what families define.\n"""\nFAMILY_NAMES = (1,)\n',
        "inside.py": "def made():\n    FAMILY = 1\n    return FAMILY",
        "parts/__init__.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(models, "__path__", [str(tmp_path)])
    assert family_names.__wrapped__() == ("typed", "whole")
    assert isinstance(load_family("whole"), LED)


@pytest.mark.parametrize("kind", KINDS)
def test_any_encoder_decoder_learns_predicts_and_comes_back_from_its_folder(
    tokenizer, kind, tmp_path
):
    family, model = build(tokenizer, "seq2seq", {"model_type": kind, **KINDS[kind]})
    batch = family.collate([SHORT, LONG], None, None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = family.loss(model, batch).item()
    for _ in range(5):
        loss = family.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert family.loss(model, batch).item() < before
    rows = family.predict(model, batch, GENERATED)
    assert len(rows) == 2 and all(len(row) <= 6 for row in rows)
    assert [len(row) for row in family.predict(model, batch, FORCED)] == [3, 5]

    model.save_pretrained(tmp_path / "saved")
    download_model({"path": str(tmp_path / "saved")}, tmp_path / "resources", {})
    again, loaded = build(tokenizer, "seq2seq", None, tmp_path / "resources")
    assert torch.equal(loaded(**batch).loss, model(**batch).loss)
    assert again.predict(loaded, batch, GENERATED) == rows


@pytest.mark.parametrize(
    ("family", "config", "start"),
    [
        ("seq2seq", BART, "eos_token_id"),
        ("seq2seq", {"model_type": "t5", **T5_LIKE}, "pad_token_id"),
        ("seq2seq", {"model_type": "pegasus_x", **KINDS["pegasus_x"]}, "pad_token_id"),
        # Its own is the beginning, which this tokenizer's targets have.
        ("bigbird_pegasus", BIGBIRD, "eos_token_id"),
    ],
)
def test_a_decoder_starts_as_its_kind_does_in_the_tokenizers_own_ids(
    tokenizer, family, config, start
):
    _, model = build(tokenizer, family, config)
    assert model.generation_config.decoder_start_token_id == getattr(tokenizer, start)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.config.vocab_size == len(tokenizer)


def test_how_a_checkpoint_would_generate_is_not_taken_over(tokenizer, tmp_path):
    """The study's settings replace the 56 to 142 tokens and four beams of bart-large-cnn."""
    family, model = build(tokenizer, "seq2seq", BART)
    batch = family.collate([SHORT], None, None)
    expected = family.predict(model, batch, GENERATED)
    asked = {"min_length": 5, "num_beams": 4, "no_repeat_ngram_size": 1, "max_length": 142}
    model.generation_config.update(**asked)
    model.save_pretrained(tmp_path)
    again, loaded = build(tokenizer, "seq2seq", None, tmp_path)
    assert loaded.generation_config.min_length in (None, 0)
    assert loaded.generation_config.num_beams in (None, 1)
    assert again.predict(loaded, batch, GENERATED) == expected


@pytest.mark.parametrize(
    ("family", "config", "said"),
    [
        ("seq2seq", {"model_type": "bert"}, r"'bert' is none \(did you mean 'bart'\?\)"),
        ("seq2seq", {"d_model": 16}, "needs the model's config to name a model_type"),
        ("seq2seq", {**BART, "d_modle": 16}, r"key 'd_modle' \(did you mean 'd_model'\?\)"),
        (
            "led",
            {"atention_window": 16},
            r"unknown key 'atention_window' \(did you mean 'attention_window'\?\)",
        ),
        ("seq2seq", {**BART, "vocab_size": 400}, "500 tokens but the model's vocab_size is 400"),
        ("seq2seq", {**BART, "max_position_embeddings": 32}, "seq_len 64 is above"),
        (
            "bigbird_pegasus",
            {**BIGBIRD, "attention_type": "block_sparse", "block_size": 16},
            "needs more than 112 tokens",
        ),
    ],
)
def test_a_model_that_cannot_be_built_says_why(tokenizer, family, config, said):
    with pytest.raises(ModelError, match=said):
        build(tokenizer, family, config)


def test_a_misspelt_key_beside_a_checkpoint_is_refused_too(tokenizer, tmp_path):
    _, model = build(tokenizer, "seq2seq", BART)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="did you mean 'dropout'"):
        build(tokenizer, "seq2seq", {"dropuot": 0.5}, tmp_path)
    _, changed = build(tokenizer, "seq2seq", {"dropout": 0.5}, tmp_path)
    assert changed.config.dropout == 0.5


def test_what_is_known_at_parse_time_is_what_transformers_says():
    for name, config in (
        ("led", transformers.LEDConfig()),
        ("bigbird_pegasus", transformers.BigBirdPegasusConfig()),
    ):
        for key, value in load_family(name).defaults.items():
            assert getattr(config, key) == value, key


@pytest.mark.parametrize(
    ("name", "config", "seq_len", "targets", "said"),
    [
        (
            "led",
            {},
            20000,
            8,
            "20000 is above the model's max_encoder_position_embeddings of 16384",
        ),
        ("led", {}, 64, 2000, "2000 is above the model's max_decoder_position_embeddings of 1024"),
        ("bigbird_pegasus", {}, 5000, 8, "max_position_embeddings of 4096"),
        ("seq2seq", {"max_position_embeddings": 1024}, 2048, 8, "max_position_embeddings of 1024"),
    ],
)
def test_lengths_are_checked_without_building(name, config, seq_len, targets, said):
    with pytest.raises(ModelError, match=said):
        load_family(name).check(config, config, seq_len, targets)


def test_a_model_without_positions_takes_any_length():
    load_family("seq2seq").check({"n_positions": 512}, {}, 10**6, 10**6)


def seen_lengths(model, family, examples) -> list[tuple[str, int]]:
    """(attention, input length) of every batch that the encoder sees, on the stock path."""
    seen = []
    encoder = model.get_encoder()

    def look(module, args, given) -> None:
        seen.append((module.attention_type, given["input_ids"].shape[1]))

    encoder.register_forward_pre_hook(look, with_kwargs=True)
    for example in examples:
        family.predict(model, family.collate([example], None, None), GENERATED)
    assert encoder.attention_type == seen[0][0], "and it is the same after the batch"
    return seen


@pytest.mark.parametrize(
    ("seq_len", "kind"), [(28, "original_full"), (29, "block_sparse"), (64, "block_sparse")]
)
def test_a_cells_length_decides_its_regime_and_no_batch_changes_it(tokenizer, seq_len, kind):
    stock = {"attention": "stock"}
    family, model = build(tokenizer, "bigbird_pegasus", BIGBIRD, seq_len=seq_len, **stock)
    cut = replace(LONG, input_ids=LONG.input_ids[:seq_len])
    seen = seen_lengths(model, family, [cut, SHORT, cut])
    assert {found for found, _ in seen} == {kind}
    own = [len(cut.input_ids), 5, len(cut.input_ids)]
    assert [length for _, length in seen] == ([seq_len] * 3 if kind == "block_sparse" else own)
    regime = {"original_full": "full attention", "block_sparse": "block-sparse attention"}[kind]
    assert family.regime(model.config.to_dict(), seq_len) == regime


def test_a_sparse_prediction_does_not_depend_on_its_batch(tokenizer):
    family, model = build(tokenizer, "bigbird_pegasus", BIGBIRD)
    together, *alone = (
        family.predict(model, family.collate(examples, None, None), FORCED)
        for examples in ([SHORT, LONG], [SHORT], [LONG])
    )
    assert together == [row for rows in alone for row in rows]


@pytest.mark.parametrize("seq_len", [24, 64])
def test_a_regime_survives_its_folder(tokenizer, seq_len, tmp_path):
    family, model = build(tokenizer, "bigbird_pegasus", BIGBIRD, seq_len=seq_len)
    batch = family.collate([SHORT], None, None)
    model.save_pretrained(tmp_path)
    _, loaded = build(tokenizer, "bigbird_pegasus", None, tmp_path, seq_len)
    assert loaded.get_encoder().attention_type == model.get_encoder().attention_type
    stock = type(model).forward
    assert torch.equal(stock(loaded, **batch).logits, stock(model, **batch).logits)
    assert torch.equal(loaded(**batch).loss, model(**batch).loss)


@pytest.mark.parametrize("seq_len", [28, 29, 64])
def test_no_batch_changes_a_regime_on_the_fast_path(tokenizer, seq_len):
    family, model = build(tokenizer, "bigbird_pegasus", BIGBIRD, seq_len=seq_len)
    cut, regime = replace(LONG, input_ids=LONG.input_ids[:seq_len]), family.regime
    before = model.get_encoder().attention_type
    first, _, last = (
        family.predict(model, family.collate([one], None, None), GENERATED)
        for one in (cut, SHORT, cut)
    )
    assert family.attention == "fast" and first == last
    assert model.get_encoder().attention_type == before
    assert regime(model.config.to_dict(), seq_len) == regime(BIGBIRD, seq_len)


def test_full_attention_may_be_asked_for_at_any_length(tokenizer):
    full = {**BIGBIRD, "attention_type": "original_full"}
    family, model = build(tokenizer, "bigbird_pegasus", full)
    assert family.regime(model.config.to_dict(), 64) == "full attention"


def test_a_checkpoints_own_code_is_never_run(tokenizer, tmp_path):
    """A folder may bring Python that wants to be imported (`auto_map`)."""
    _, model = build(tokenizer, "seq2seq", BART)
    model.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved/config.json").read_text())
    config["auto_map"] = {"AutoConfig": "mine.MyConfig", "AutoModelForSeq2SeqLM": "mine.MyModel"}
    (tmp_path / "saved/config.json").write_text(json.dumps(config))
    (tmp_path / "saved/mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    download_model({"path": str(tmp_path / "saved")}, tmp_path / "resources", {})
    assert not (tmp_path / "resources/mine.py").exists()
    for folder in ("saved", "resources"):
        _, loaded = build(tokenizer, "seq2seq", None, tmp_path / folder)
        assert type(loaded).__name__ == "BartForConditionalGeneration"
    assert not (tmp_path / "ran").exists()


def test_a_pickle_is_never_loaded(tokenizer, tmp_path):
    """download_model refuses a folder without safetensors, and building never opens the pickle."""

    class Ran:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    _, model = build(tokenizer, "seq2seq", BART)
    model.config.save_pretrained(tmp_path)
    torch.save({"weights": Ran()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        download_model({"path": str(tmp_path)}, tmp_path / "resources", {})
    with pytest.raises(OSError, match="safetensors"):
        build(tokenizer, "seq2seq", None, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_without_padding_is_refused(tokenizer):
    class Bare:
        pad_token_id = None

    with pytest.raises(ModelError, match="no padding token"):
        load_family("seq2seq").build({"config": {"model_type": "bart"}}, Bare(), None, 64, 8)


def test_which_random_blocks_a_length_has_is_noted():
    family = load_family("bigbird_pegasus")
    (original,), (other,) = (family.notes({}, length) for length in (3072, 2048))
    assert "from the first 1,024 tokens" in original and "plan for other lengths" in other
    assert family.notes({}, 704) == [] and load_family("led").notes({}, 4096) == []


def test_bigbird_starts_with_the_beginning_where_targets_have_none(tokenizer):
    class WithoutPrefix:
        """The tokenizer as Pegasus has it: an end and no beginning around a text."""

        pad_token_id, eos_token_id, bos_token_id = 1, 2, 0

        def __len__(self):
            return len(tokenizer)

        def __call__(self, text, return_special_tokens_mask=False):
            return {"input_ids": [5, 2], "special_tokens_mask": [0, 1]}

    _, model = build(WithoutPrefix(), "bigbird_pegasus", BIGBIRD)
    assert model.generation_config.decoder_start_token_id == 0


def saved(tokenizer, folder: Path, **config) -> Path:
    _, model = build(tokenizer, "seq2seq", {"model_type": "bart", **BART_LIKE, **config})
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("family", "config", "said"),
    [
        (
            "seq2seq",
            {"encoder_layers": 2},
            "the checkpoint lacks 16 of the model's weights, model.encoder.layers.1",
        ),
        ("seq2seq", {"model_type": "t5"}, "the checkpoint is of the kind 'bart', not 't5'"),
        ("led", None, "for models of the kind 'led', not 'bart'"),
        ("bigbird_pegasus", None, "for models of the kind 'bigbird_pegasus', not 'bart'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_never_filled_up_with_random_weights(
    tokenizer, family, config, said, tmp_path
):
    with pytest.raises(ModelError, match=said):
        build(tokenizer, family, config, saved(tokenizer, tmp_path))


def test_another_vocabularys_tokenizer_is_refused(tokenizer, tmp_path):
    folder = saved(tokenizer, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 7}))
    with pytest.raises(
        ModelError, match="the tokenizer's eos_token_id is 2 but the checkpoint's is 7"
    ):
        build(tokenizer, "seq2seq", None, folder)


@pytest.mark.parametrize("kind", ["led", "bigbird_pegasus"])
def test_what_has_a_family_of_its_own_is_not_taken_by_the_generic_one(kind):
    with pytest.raises(ModelError, match=f"need their own family; say `family: {kind}`"):
        load_family("seq2seq").check({"model_type": kind}, {}, 64, 8)


def test_a_kind_that_starts_otherwise_in_training_is_refused(tokenizer):
    with pytest.raises(
        ModelError, match="starts its decoder with token 2 in training and 1 in generation"
    ):
        build(tokenizer, "seq2seq", {"model_type": "mbart", **BART_LIKE})


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        (
            "led",
            {"max_encoder_position_embeddings": "128"},
            "must be a whole number from 1, but is '128'",
        ),
        (
            "bigbird_pegasus",
            {"block_size": "64"},
            "block_size in the model's config must be a whole number",
        ),
        (
            "bigbird_pegasus",
            {"num_random_blocks": 0},
            "num_random_blocks in the model's config must be a whole number from 1",
        ),
        ("led", {"max_decoder_position_embeddings": True}, "but is True"),
    ],
)
def test_wrong_types_in_a_models_config_are_named(name, config, said):
    family = load_family(name)
    with pytest.raises(ModelError, match=said):
        family.check(config, config, 64, 8)
        family.regime(config, 64)
