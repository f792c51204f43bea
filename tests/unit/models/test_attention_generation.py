"""Predictions by the fast path: the tokens of transformers, in every option of a study."""

from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    BigBirdPegasusConfig,
    BigBirdPegasusForConditionalGeneration,
    GenerationConfig,
    LEDConfig,
    LEDForConditionalGeneration,
)

from longwatt.models.attention import documents, generation, led
from longwatt.models.attention.path import FastPath
from longwatt.models.attention.steps import StepDecoder
from longwatt.models.bigbird_pegasus import BigBirdPegasus
from longwatt.models.led import LED

VOCABULARY, PAD, END, LONGEST = 40, 1, 2, 64
TOKENS = {"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": END}
SHAPE = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 1, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, "dropout": 0.0, "attention_dropout": 0.0, "init_std": 0.1,
    "tie_word_embeddings": False, **TOKENS,
}  # fmt: skip
KINDS = ("led", "bigbird")
UNEVEN = (23, 1, 40, 9)


def made(kind: str):
    """A model with small random weights."""
    torch.manual_seed(0)
    if kind == "led":
        places = {"max_encoder_position_embeddings": LONGEST, "max_decoder_position_embeddings": 32}
        config = LEDConfig(**SHAPE, **places, attention_window=8)
        model = LEDForConditionalGeneration(config)
    else:
        shape = {**SHAPE, "max_position_embeddings": LONGEST, "attention_type": "original_full"}
        model = BigBirdPegasusForConditionalGeneration(BigBirdPegasusConfig(**shape))
    model.generation_config = GenerationConfig(**TOKENS)
    return model.eval()


def spread(model):
    """Give weights a trained model's size, so that attention is uneven and no scores are close."""
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            is_table = "embed" in name or "shared" in name
            weight.data = torch.randn(weight.shape) * (
                1 if is_table else 2 * len(weight[0]) ** -0.5
            )
        else:
            weight.data += 0.1 * torch.randn(weight.shape)
    return model


def encode_whole(encoder, input_ids, packing):
    """Encode by the encoder itself, where it has full attention."""
    width = packing.longest
    mask = packing.real(width).long()
    return packing.pack(encoder(packing.pad(input_ids), attention_mask=mask).last_hidden_state)


def path_of(model) -> FastPath:
    is_led = isinstance(model, LEDForConditionalGeneration)
    encode = led.encode if is_led else encode_whole
    path = FastPath(model, encode, norm_first=not is_led, first_is_global=is_led)
    path.attach()
    return path


@cache
def random_path(kind: str) -> FastPath:
    """A path whose model no test changes but for the bias of its logits."""
    return path_of(spread(made(kind)))


def batch_of(lengths, kind="led", seed=0):
    torch.manual_seed(seed)
    ids = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, VOCABULARY, (length,))
    batch = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    if kind == "led":
        first = torch.zeros_like(ids)
        first[:, 0] = 1
        batch["global_attention_mask"] = first
    return batch


def stock(path, batch, options):
    """What transformers generates, by the class's own `forward`."""
    attached = path.model.__dict__.pop("forward")
    try:
        output = path.model.generate(**batch, **options, do_sample=False)
    finally:
        path.model.forward = attached
    return output[:, 1:].tolist()


def assert_same(path, batch, options):
    """Compare with transformers, and return the tokens."""
    found = generation.generate(path, batch, options)
    assert found == stock(path, batch, options)
    return found


def lengths_of(rows):
    return [row.index(END) + 1 if END in row else len(row) for row in rows]


@pytest.fixture(params=KINDS)
def path(request):
    path = random_path(request.param)
    yield path
    path.model.final_logits_bias.zero_()
    path.model.generation_config = GenerationConfig(**TOKENS)


@pytest.fixture
def batch(path):
    return batch_of(UNEVEN, "led" if isinstance(path.model, LEDForConditionalGeneration) else "")


@pytest.fixture(params=["keys", "states"])
def way(request, monkeypatch):
    """Each way of reading documents, whatever is cheaper."""
    monkeypatch.setattr(documents, "WORTH", 0 if request.param == "keys" else 1e9)
    monkeypatch.setattr(documents, "FREE_QUERIES", 0)
    return request.param


@pytest.mark.parametrize("lengths", [(17,), (12, 12, 12), UNEVEN, (1, 1), (1, 40)])
@pytest.mark.parametrize("beams", [1, 4])
def test_random_weights_give_the_same_tokens(path, way, lengths, beams):
    kind = "led" if path.norm_first is False else ""
    options = {"max_new_tokens": 12, "num_beams": beams}
    found = assert_same(path, batch_of(lengths, kind), options)
    if lengths == UNEVEN:  # a model that says something
        assert len({token for row in found for token in row}) > 2


@pytest.mark.parametrize("beams", [1, 2])
def test_one_new_token(path, way, batch, beams):
    found = assert_same(path, batch, {"max_new_tokens": 1, "num_beams": beams})
    assert [len(row) for row in found] == [1] * len(UNEVEN)


def test_rows_end_at_different_times_and_leave(path, way, monkeypatch):
    counts, scored = [], StepDecoder.logits
    monkeypatch.setattr(
        StepDecoder, "logits", lambda self, t: counts.append(len(t)) or scored(self, t)
    )
    batch = batch_of([30, 4, 21, 9, 13, 40, 5, 1], "" if path.norm_first else "led", seed=3)
    path.model.final_logits_bias[0, END] = 0 if path.norm_first else 3.5
    ends = lengths_of(assert_same(path, batch, {"max_new_tokens": 15}))
    assert len(set(ends)) > 2
    assert counts == [sum(end > step for end in ends) for step in range(max(ends))]


@pytest.mark.parametrize("beams", [1, 2])
def test_the_end_as_first_token_of_all_rows(path, batch, beams):
    path.model.final_logits_bias[0, END] = 1e4
    found = assert_same(path, batch, {"max_new_tokens": 9, "num_beams": beams})
    assert found == [[END]] * len(UNEVEN)


def test_all_rows_end_at_once_before_the_last_step(path, batch):
    path.model.final_logits_bias[0, END] = 1e4
    found = assert_same(path, batch, {"max_new_tokens": 9, "min_new_tokens": 4})
    assert lengths_of(found) == [5] * len(UNEVEN)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_n_gram_repeats(path, batch, size, beams):
    free = {"max_new_tokens": 20, "num_beams": beams}
    found = assert_same(path, batch, {**free, "no_repeat_ngram_size": size})
    assert found != assert_same(path, batch, free)


@pytest.mark.parametrize("penalty", [0.0, 0.5, 2.0, -1.0])
@pytest.mark.parametrize("early", [True, False, "never"])
def test_beams_follow_penalties_and_early_stopping(path, batch, penalty, early):
    path.model.final_logits_bias[0, END] = 2
    options = {"max_new_tokens": 12, "num_beams": 4}
    assert_same(path, batch, {**options, "length_penalty": penalty, "early_stopping": early})


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"forced_bos_token_id": 7},
        {"forced_eos_token_id": END},
        {"forced_bos_token_id": 7, "forced_eos_token_id": END},
        {"eos_token_id": [END, 11, 12, 13]},
        {"pad_token_id": 0},
        {"pad_token_id": None},
        {"eos_token_id": None},
    ],
    ids=str,
)
def test_tokens_of_the_generation_configuration(path, batch, changes, beams):
    path.model.generation_config = GenerationConfig(**{**TOKENS, **changes})
    path.model.final_logits_bias[0, END] = 3.5
    assert_same(path, batch, {"max_new_tokens": 9, "num_beams": beams, "min_new_tokens": 1})


@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    most=st.integers(1, 10),
    least=st.integers(0, 10),
    size=st.integers(0, 3),
    beams=st.integers(1, 4),
    liking=st.sampled_from([0.0, 2.0, 4.0]),
    penalty=st.sampled_from([0.5, 1.0, 2.0]),
    early=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_options_of_a_study(
    kind, lengths, most, least, size, beams, liking, penalty, early, seed
):
    path = random_path(kind)
    options = {
        "max_new_tokens": most,
        "min_new_tokens": min(least, most),
        "no_repeat_ngram_size": size,
        "num_beams": beams,
    }
    if beams > 1:
        options |= {"length_penalty": penalty, "early_stopping": early}
    path.model.final_logits_bias[0, END] = liking
    try:
        assert_same(path, batch_of(lengths, kind, seed), options)
    finally:
        path.model.final_logits_bias.zero_()


@pytest.fixture(scope="module", params=KINDS)
def trained(request):
    """A path of a model that learned to copy a document's first token, one to four times."""
    path = path_of(made(request.param))
    optimizer = torch.optim.AdamW(path.model.parameters(), lr=1e-2)
    path.model.train()
    for step in range(80):
        batch = few_tokens(request.param, 32, seed=step)
        labels = torch.full((32, 5), -100)
        for row, token in enumerate(batch["input_ids"][:, 0].tolist()):
            copied = [token] * (1 + token % 4)
            labels[row, : len(copied) + 1] = torch.tensor([*copied, END])
        loss = path.model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path.model.eval()
    return path, loss.item()


def few_tokens(kind, rows, seed):
    """Documents of eight tokens, of which there are ten kinds."""
    batch = batch_of([8] * rows, kind, seed)
    return {**batch, "input_ids": 3 + batch["input_ids"] % 10}


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_trained_weights_give_the_same_tokens(trained, way, beams):
    path, loss = trained
    assert loss < 1  # it learned something: 2.4 is a guess among a document's tokens
    for seed in (100, 101):
        batch = few_tokens("" if path.norm_first else "led", 6, seed)
        found = assert_same(path, batch, {"max_new_tokens": 10, "num_beams": beams})
    assert len(set(lengths_of(found))) > 1


def labelled(batch):
    torch.manual_seed(1)
    labels = torch.randint(3, VOCABULARY, (len(UNEVEN), 7))
    for row, length in enumerate((7, 3, 0, 5)):
        labels[row, length:] = -100
    return {**batch, "labels": labels}


def test_teacher_forced_predictions_are_the_same(path, batch):
    batch = labelled(batch)
    logits = type(path.model).forward(path.model, **batch).logits
    pairs = zip(logits.argmax(-1), batch["labels"] != -100, strict=True)
    found = generation.label_argmax(path, batch)
    assert found == [row[counted].tolist() for row, counted in pairs]
    assert [len(row) for row in found] == [7, 3, 0, 5]


def left_padded(batch):
    return {name: tensor.flip(1) for name, tensor in batch.items() if "global" not in name}


def test_what_only_transformers_can_do_is_left_to_it(path, batch):
    short = {"max_new_tokens": 3}
    assert generation.generate(path, left_padded(batch), short) is None
    assert generation.label_argmax(path, {**labelled(batch), **left_padded(batch)}) is None
    assert generation.generate(path, batch, {**short, "repetition_penalty": 2.0}) is None
    assert generation.generate(path, batch, {"min_new_tokens": 3}) is None
    path.model.generation_config.suppress_tokens = [4]
    assert generation.generate(path, batch, short) is None
    assert_same(path, batch, {**short, "num_beams": 2})  # transformers' own search sees to it


def test_a_model_in_training_mode_is_left_to_transformers(path, batch):
    path.model.train()
    try:
        assert generation.generate(path, batch, {"max_new_tokens": 3}) is None
    finally:
        path.model.eval()


@pytest.mark.parametrize("beams", [1, 3])
def test_documents_are_encoded_once_and_kept_once(beams, monkeypatch):
    model, calls, held = made("led"), [], []
    encode = lambda *given: calls.append(1) or led.encode(*given)  # noqa: E731
    path = FastPath(model, encode, norm_first=False, first_is_global=True)
    path.attach()
    kept = documents.FromKeys.__init__
    monkeypatch.setattr(documents, "WORTH", 0)
    monkeypatch.setattr(documents, "FREE_QUERIES", 0)
    monkeypatch.setattr(
        documents.FromKeys,
        "__init__",
        lambda self, *given: kept(self, *given) or held.append(self._keys.shape[0]),
    )
    monkeypatch.setattr(model.get_encoder(), "forward", lambda *a, **k: pytest.fail("encoded"))
    monkeypatch.setattr(model.get_decoder(), "forward", lambda *a, **k: pytest.fail("decoded"))
    options = {"max_new_tokens": 5, "num_beams": beams}
    assert generation.generate(path, batch_of(UNEVEN), options) is not None
    assert calls == [1]
    assert held == [len(UNEVEN)] * SHAPE["decoder_layers"]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_mixed_precision_keeps_caches_in_its_type(path, way, batch, kind):
    tokens = torch.randint(3, VOCABULARY, (len(UNEVEN), 6))
    with torch.no_grad():
        want = type(path.model).forward(path.model, **batch, decoder_input_ids=tokens).logits
        encoded = path.encoded(batch, path.packing(batch))
        with torch.autocast("cpu", dtype=kind):
            steps = StepDecoder(path.model, encoded, path.norm_first, 6)
            found = torch.stack([steps.logits(column) for column in tokens.t()], 1)
    assert steps._layers[0].own._cache.dtype == steps._documents.states.dtype == kind
    assert steps._head.weight.dtype == kind
    assert (found - want).abs().mean() < 0.05 * want.abs().mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", ["generated", "teacher_forced"])
def test_a_family_predicts_by_the_path_it_has_and_by_stock_elsewhere(kind, protocol, monkeypatch):
    path = random_path(kind)
    family = LED() if kind == "led" else BigBirdPegasus()
    options = {"max_new_tokens": 6, "num_beams": 1, "length_penalty": None, "early_stopping": None}
    how = {"protocol": protocol, "generation": options}
    batch = labelled(batch_of(UNEVEN, kind))
    monkeypatch.delitem(path.model.__dict__, "forward")
    want = family.predict(path.model, batch, how)
    asked = []
    for name in ("generate", "label_argmax"):
        whole = getattr(generation, name)
        monkeypatch.setattr(
            generation, name, lambda *given, whole=whole: asked.append(1) or whole(*given)
        )
    family.fast = path
    path.attach()
    assert family.predict(path.model, batch, how) == want
    assert asked == [1]
    flipped = {**batch, **left_padded(batch)}
    assert family.predict(path.model, flipped, how) == stock_prediction(family, path, flipped, how)


def stock_prediction(family, path, batch, how):
    family.fast = None
    attached = path.model.__dict__.pop("forward")
    try:
        return family.predict(path.model, batch, how)
    finally:
        path.model.forward, family.fast = attached, path
