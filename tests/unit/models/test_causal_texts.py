"""Texts of decoder-only models: a batch of prompts answers as each prompt alone does."""

import pytest
import torch

from longwatt.models.decoder_only.texts import prompts
from longwatt.models.family import IGNORED
from tests.unit.models.causal_models import (
    BATCH,
    END,
    FORCED,
    GREEDY,
    KINDS,
    PAD,
    build,
    examples,
    searched,
)


def one_by_one(family, model, chosen, how):
    return [family.predict(model, family.collate([one], None, None), how)[0] for one in chosen]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [GREEDY, searched(num_beams=3)], ids=["greedy", "beams"])
@torch.no_grad()
def test_a_batch_answers_as_each_prompt_alone(kind, how):
    family, model = build(kind)
    chosen = examples(*BATCH)  # the longest is four times a sliding window
    together = family.predict(model, family.collate(chosen, 60, None), how)
    assert together == one_by_one(family, model, chosen, how)
    assert len({tuple(row) for row in together}) == len(BATCH)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_cache_answers_what_whole_passes_do(kind):
    """Positions, windows and masks: each token is the best after all before it."""
    family, model = build(kind)
    (example,) = examples((33, 1))
    (answer,) = one_by_one(family, model, [example], GREEDY)
    ids = list(example.input_ids)
    for token in answer:
        logits = type(model).forward(model, input_ids=torch.tensor([ids])).logits[0, -1]
        assert int(logits.argmax()) == token
        ids.append(token)


@torch.no_grad()
def test_an_answer_stops_at_its_end_and_the_others_go_on():
    family, model = build("llama")
    chosen = examples(*BATCH)
    plain = one_by_one(family, model, chosen, GREEDY)
    family.ends = (END, plain[1][2])
    found = family.predict(model, family.collate(chosen, None, None), GREEDY)
    ended = plain[1].index(plain[1][2]) + 1
    assert found[1] == plain[1][:ended]
    assert found[0] == plain[0] and len(found[0]) == 6


@pytest.mark.parametrize("beams", [1, 3])
@torch.no_grad()
def test_generation_itself_ends_at_the_end_of_a_turn(beams, monkeypatch):
    """Steps after it would take energy, and beams would be judged by what nobody reads."""
    family, model = build("llama")
    batch, how = family.collate(examples((20, 4)), None, None), searched(num_beams=beams)
    (plain,) = family.predict(model, batch, how)
    stop = plain[2]
    given = prompts(batch, PAD)
    ends = {"eos_token_id": [END, stop], "pad_token_id": PAD}
    options = {"num_beams": beams, "max_new_tokens": 6, "do_sample": False}
    expected = model.generate(**given, **ends, **options)[0, 20:].tolist()
    passes: list[int] = []
    model.base_model.register_forward_hook(lambda *_: passes.append(1))
    (found,) = family.predict(model, batch, {**how, "stops": [stop]})
    assert found == expected and len(passes) <= len(found) + beams
    assert beams > 1 or (found == plain[:3] and len(passes) == 3)


@torch.no_grad()
def test_an_end_that_is_the_padding_as_well_is_counted_once():
    family, model = build("llama")
    chosen = examples(*BATCH)
    plain = one_by_one(family, model, chosen, GREEDY)
    family.ends, family.pad_token_id = (plain[1][0],), plain[1][0]
    model.generation_config.pad_token_id = family.pad_token_id
    found = family.predict(model, family.collate(chosen, None, None), GREEDY)
    assert found[1] == [plain[1][0]] and found[0] == plain[0]


@torch.no_grad()
def test_no_sequence_repeats_in_an_answer_but_a_prompt_s_may():
    family, model = build("llama")
    (example,) = chosen = examples((20, 4))
    model.lm_head.weight.zero_()  # all tokens are as good, and the first one that may be is taken
    assert one_by_one(family, model, chosen, GREEDY) == [[0] * 6]
    once = searched(no_repeat_ngram_size=1)
    assert one_by_one(family, model, chosen, once) == [[0, 1, END]]
    assert example.input_ids[0] == 0, "which the answer may repeat"


def test_prompts_end_together_and_are_padded_before():
    family, _ = build()
    chosen = examples((3, 2), (5, 3))
    given = prompts(family.collate(chosen, 30, None), PAD)
    assert given["input_ids"].tolist() == [
        [PAD, PAD, *chosen[0].input_ids],
        chosen[1].input_ids,
    ]
    assert given["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1] * 5]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_teacher_forced_answers_are_the_best_after_gold_tokens(kind, monkeypatch):
    family, model = build(kind)
    batch = family.collate(examples(*BATCH), None, None)
    best = type(model).forward(model, **batch).logits[:, :-1].argmax(-1)
    expected = [
        row[mask].tolist()
        for row, mask in zip(best, batch["labels"][:, 1:] != IGNORED, strict=True)
    ]
    assert family.predict(model, batch, FORCED) == expected
    monkeypatch.setattr("longwatt.models.losses.label_loss.CHUNK", 400)
    assert family.predict(model, batch, FORCED) == expected
    assert [len(row) for row in expected] == [answer for _, answer in BATCH]
