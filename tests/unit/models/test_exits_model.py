"""Encoders with exits: run by layers, trained, saved, left early."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from longwatt.models.errors import ModelError
from longwatt.models.exits.encoder_config import depth
from longwatt.models.exits.inference import Leaver, _exact
from longwatt.models.exits.layerwise import Layerwise, check_layerwise
from longwatt.models.exits.model import (
    EarlyExitConfig,
    EarlyExitModel,
    cut_config,
    load_trained,
    new_model,
)
from longwatt.models.exits.rules import LAST, ORACLE, PATIENCE, THRESHOLD, ExitRule

BERT_LIKE = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32,
    "vocab_size": 100, "initializer_range": 0.2,
}  # fmt: skip
KINDS = {
    "bert": BERT_LIKE,
    "roberta": {**BERT_LIKE, "max_position_embeddings": 40},
    "distilbert": {"dim": 32, "n_layers": 4, "n_heads": 2, "hidden_dim": 32, "vocab_size": 100},
    "electra": {**BERT_LIKE, "embedding_size": 16},
    # A window of 6 tokens, so that local attention is local; norms before layers and at the end.
    "modernbert": {**BERT_LIKE, "local_attention": 6, "pad_token_id": 0, "bos_token_id": 1,
                   "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
}  # fmt: skip
LABELS = ["a", "b", "c"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Threads that wait for each other cost more than models as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def encoder(kind: str) -> dict:
    return AutoConfig.for_model(kind, **KINDS[kind]).to_dict()


def model_of(
    kind: str = "bert", layers=(0, 1, 3), temperatures=(1.0, 1.0, 1.0), **settings
) -> EarlyExitModel:
    torch.manual_seed(0)
    temperatures = None if temperatures is None else list(temperatures)[: len(layers)]
    config = EarlyExitConfig(
        encoder=encoder(kind), layers=layers, labels=LABELS, temperatures=temperatures, **settings
    )
    model = new_model(config, None).eval()
    with (
        torch.no_grad()
    ):  # so that classifiers disagree, and are sure of some rows and not of others
        for exit_ in model.exits:
            exit_.classifier.weight.mul_(10)
    return model


def rows_of(kind: str, count: int = 24, longest: int = 20) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, longest + 1, (count,), generator=generator)
    mask = (torch.arange(longest) < lengths[:, None]).long()
    ids = torch.randint(50, 100, (count, longest), generator=generator)
    return {
        "input_ids": torch.where(mask > 0, ids, 1 if kind == "roberta" else 0),
        "attention_mask": mask,
    }


def leave(model: EarlyExitModel, rule: ExitRule, rows: dict, size: int, labels=None):
    return Leaver(model, rule, size).leave(rows, labels)


RULES = [
    *(ExitRule(THRESHOLD, t) for t in (0.4, 0.6, 0.8, 0.95, 1.0)),
    ExitRule(PATIENCE, 2),
    ExitRule(LAST),
]


@pytest.mark.parametrize("kind", KINDS)
def test_regrouped_batches_predict_what_batch_1_predicts(kind):
    model, rows, exits = model_of(kind), rows_of(kind), set()
    for rule in RULES:
        alone, together = leave(model, rule, rows, 1), leave(model, rule, rows, 5)
        assert [(a.answer, a.exit) for a in alone] == [(t.answer, t.exit) for t in together], rule
        assert (
            max(abs(a.confidence - t.confidence) for a, t in zip(alone, together, strict=True))
            < 1e-5
        )
        exits |= {a.exit for a in alone}
    assert exits == {0, 1, 2}, "rows leave everywhere, so that all paths are taken"


@pytest.mark.parametrize("kind", KINDS)
def test_every_layers_state_is_the_encoders_own(kind):
    """The output of a shallower encoder with the same weights is what an exit there sees."""
    model, rows = model_of(kind), rows_of(kind)
    with torch.no_grad():
        hidden, calls = model.layerwise.begin(rows)
        for layer, call in enumerate(calls):
            hidden = call(hidden)
            shallow = AutoModel.from_config(cut_config(model.config.encoder, layer + 1)).eval()
            shallow.load_state_dict(model.encoder.state_dict(), strict=False)
            expected = shallow(**rows)[0][:, 0]
            torch.testing.assert_close(
                model.layerwise.first_token(hidden), expected, atol=1e-5, rtol=1e-4
            )


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns_and_comes_back_bit_by_bit(kind, tmp_path):
    model, rows = model_of(kind), rows_of(kind)
    labels = torch.arange(24)[:, None] % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(6):
        loss = model(**rows, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters()), (
            "a parameter that no loss reaches stops DDP"
        )
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    again = load_trained(tmp_path).eval()
    held = again.state_dict()
    assert set(held) == set(model.state_dict())
    assert all(torch.equal(held[name], tensor) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(again.exit_logits(rows), model.eval().exit_logits(rows))
    assert again.config.labels == LABELS and depth(again.config.encoder) == 4
    by_auto = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(by_auto(**rows).logits, model.exit_logits(rows)[-1])


def test_the_loss_is_the_mean_of_summed_cross_entropies():
    model, rows = model_of(), rows_of("bert")
    labels = torch.arange(24) % 3
    logits = model.exit_logits(rows)
    expected = sum(nn.functional.cross_entropy(one, labels) for one in logits)
    torch.testing.assert_close(model(**rows, labels=labels[:, None]).loss, expected)
    assert logits.shape == (3, 24, 3) and logits.dtype == torch.float32


def test_a_classifier_sees_the_weighted_sum_of_the_pooled_states_so_far():
    model, rows = model_of(), rows_of("bert")
    with torch.no_grad():
        model.exits[1].weights.copy_(torch.tensor([0.25, -2.0]))
        states = model.encoder(**rows, output_hidden_states=True).hidden_states
        pooled = [torch.tanh(model.dense(states[layer + 1][:, 0])) for layer in (0, 1)]
        expected = model.exits[1].classifier(0.25 * pooled[0] - 2.0 * pooled[1])
        torch.testing.assert_close(model.exit_logits(rows)[1], expected, atol=1e-5, rtol=1e-4)


def test_layer_weights_are_learned_or_a_frozen_random_direction(tmp_path):
    learned, frozen = model_of(), model_of(layer_weights="frozen_random")
    for model in (learned, frozen):
        for exit_ in model.exits:
            assert exit_.weights.norm().item() == pytest.approx(1)
    names = {name for name, _ in learned.named_parameters()} - {
        name for name, _ in frozen.named_parameters()
    }
    assert names == {f"exits.{n}.weights" for n in range(3)}
    assert not torch.equal(learned.exits[2].weights, frozen.exits[2].weights)
    frozen.save_pretrained(tmp_path)
    assert torch.equal(load_trained(tmp_path).exits[2].weights, frozen.exits[2].weights)
    torch.manual_seed(1)
    assert not torch.equal(EarlyExitModel(frozen.config).exits[2].weights, frozen.exits[2].weights)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_layers_above_the_highest_exit_are_not_built(kind):
    model = model_of(kind, layers=(0, 1))
    assert model.encoder.config.num_hidden_layers == 2 and depth(model.config.encoder) == 4
    assert not [name for name, _ in model.named_parameters() if ".2." in name]


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_activation_checkpointing_gives_the_same_gradients(kind):
    rows, labels = rows_of(kind), torch.arange(24) % 3
    gradients = []
    for checkpointed in (False, True):
        model = model_of(kind)
        if checkpointed:
            model.gradient_checkpointing_enable()
        torch.manual_seed(3)  # the same dropout, which a layer made anew must repeat
        model.train()(**rows, labels=labels).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_processes_can_train_it_together(tmp_path):
    """DDP refuses the second step where a parameter had no part in the first."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(model_of())
        for _ in range(2):
            wrapped(**rows_of("bert"), labels=torch.arange(24) % 3).loss.backward()
    finally:
        torch.distributed.destroy_process_group()


def pretrained(folder, **changes) -> dict:
    """A checkpoint of a whole encoder, with its pooler."""
    torch.manual_seed(5)
    config = AutoConfig.for_model("bert", **{**BERT_LIKE, **changes})
    AutoModel.from_config(config).save_pretrained(folder)
    return config.to_dict()


def test_a_checkpoints_lower_layers_and_pooler_are_taken(tmp_path):
    full = pretrained(tmp_path)
    model = new_model(EarlyExitConfig(encoder=full, layers=[0, 1], labels=LABELS), tmp_path)
    source = AutoModel.from_pretrained(tmp_path)
    assert (
        torch.equal(model.dense.weight, source.pooler.dense.weight)
        and model.config.pooler == "checkpoint"
    )
    key = "encoder.layer.1.output.dense.weight"
    assert torch.equal(model.encoder.state_dict()[key], source.state_dict()[key])


def test_a_checkpoint_without_what_is_needed_is_refused(tmp_path):
    pretrained(tmp_path, num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"lacks 16 of the encoder's weights, encoder\.layer\.2"):
        new_model(EarlyExitConfig(encoder=encoder("bert"), layers=[2], labels=LABELS), tmp_path)


def test_without_a_pooler_there_is_a_random_one_and_it_says_so(tmp_path):
    torch.manual_seed(0)
    config = AutoConfig.for_model("distilbert", **KINDS["distilbert"])
    AutoModel.from_config(config).save_pretrained(tmp_path)
    model = new_model(
        EarlyExitConfig(encoder=config.to_dict(), layers=[0], labels=LABELS), tmp_path
    )
    assert model.config.pooler == "random"


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("albert", {"embedding_size": 16}, "'albert' has no lists of 4 layers"),
        ("fnet", {}, "'fnet' gives other states"),  # it has no mask: padding counts
        ("convbert", {"embedding_size": 16}, "'convbert' gives other states"),
        ("xlnet", {"d_model": 32, "n_head": 2}, "'xlnet' has no module called embeddings"),
    ],
)
def test_an_encoder_that_is_no_plain_stack_is_refused_by_name(kind, changes, said):
    torch.manual_seed(0)
    given = {**BERT_LIKE, **changes}
    known = AutoConfig.for_model(kind)
    built = AutoModel.from_config(
        AutoConfig.for_model(kind, **{k: v for k, v in given.items() if hasattr(known, k)})
    )
    with pytest.raises(ModelError, match=said):
        check_layerwise(Layerwise(built.eval()))


def test_a_patient_example_leaves_once_enough_agree():
    model, rows = model_of(), rows_of("bert")
    with torch.no_grad():
        answers = model.exit_logits(rows).argmax(-1).t().tolist()
    assert {left.exit for left in leave(model, ExitRule(PATIENCE, 1), rows, 5)} == {0}
    for row, left in zip(answers, leave(model, ExitRule(PATIENCE, 2), rows, 5), strict=True):
        expected = 1 if row[1] == row[0] else 2
        assert (left.exit, left.answer) == (expected, row[expected])


def test_an_oracle_leaves_at_the_first_that_is_right():
    model, rows = model_of(), rows_of("bert")
    labels = torch.arange(24)[:, None] % 3
    with torch.no_grad():
        answers = model.exit_logits(rows).argmax(-1).t().tolist()
    for size in (1, 5):
        for row, gold, left in zip(
            answers, labels, leave(model, ExitRule(ORACLE), rows, size, labels), strict=True
        ):
            assert left.exit == next((n for n, answer in enumerate(row) if answer == gold), 2)
    with pytest.raises(ModelError, match="oracle needs the labels"):
        leave(model, ExitRule(ORACLE), rows, 5)


def test_confidence_is_that_of_the_calibrated_logits():
    model, rows = model_of(temperatures=(0.5, 2.0, 1.3)), rows_of("bert")
    with torch.no_grad():
        logits = model.exit_logits(rows).double()
    calibrated = (logits / torch.tensor([0.5, 2.0, 1.3]).view(3, 1, 1)).softmax(-1).amax(-1)
    for rule in (ExitRule(THRESHOLD, 0.7), ExitRule(LAST)):
        for number, left in enumerate(leave(model, rule, rows, 5)):
            assert left.confidence == pytest.approx(float(calibrated[left.exit, number]), abs=1e-5)
            passed = [n for n in range(3) if calibrated[n, number] >= 0.7]
            assert left.exit == (passed or [2])[0] if rule.kind == THRESHOLD else left.exit == 2


def test_a_threshold_needs_temperatures():
    model, rows = model_of(temperatures=None), rows_of("bert")
    with pytest.raises(ModelError, match="no temperatures: calibrate first"):
        leave(model, ExitRule(THRESHOLD, 0.9), rows, 5)
    uncalibrated = Leaver(model, ExitRule(THRESHOLD, 0.6), 5, uncalibrated=True).leave(rows)
    model.config.temperatures = [1.0] * 3
    assert uncalibrated == leave(model, ExitRule(THRESHOLD, 0.6), rows, 5)


def test_a_row_that_rounding_could_turn_is_answered_alone():
    """The threshold is a row's confidence in batch 1; another batch may come out just below."""
    model, rows = model_of(), rows_of("bert")
    for number, left in enumerate(leave(model, ExitRule(THRESHOLD, 1e-6), rows, 1)[:8]):
        rule = ExitRule(THRESHOLD, left.confidence)
        alone, together = leave(model, rule, rows, 1), leave(model, rule, rows, 24)
        assert alone[number] == together[number] and alone[number].exit == 0


@pytest.mark.parametrize(
    ("threshold", "margin"), [(0.99, 4.595), (1 - 1e-12, 27.63), (1 - 1e-15, 34.54), (1.0, 36.737)]
)
def test_low_temperatures_turn_no_decision(threshold, margin):
    """A temperature of 0.01, and one for each row that puts its confidence at the threshold."""
    model, rows, rule = model_of(), rows_of("bert"), ExitRule(THRESHOLD, threshold)
    with torch.no_grad():
        best, second = model.exit_logits(rows)[0, :8].topk(2).values.unbind(1)
    for temperature in (0.01, *((best - second) / margin).tolist()):
        model.config.temperatures = [temperature, 1e3, 1e3]
        alone, together = leave(model, rule, rows, 1), leave(model, rule, rows, 8)
        assert [(a.answer, a.exit) for a in alone] == [(t.answer, t.exit) for t in together], (
            temperature
        )
        assert threshold < 1 or {a.exit for a in alone} == {2}, (
            "a probability of 1 is never reached"
        )


def test_coarser_products_are_not_exact(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=False))
    assert _exact(cpu) and _exact(cuda)
    with torch.autocast("cpu", torch.bfloat16):
        assert not _exact(cpu)
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=True))
    assert _exact(cpu) and not _exact(cuda), "a CPU has no TF32"


@pytest.mark.parametrize("size", [1, 24])
def test_what_exits_add_is_summed_in_float32(size):
    """In bf16 1 and 2^-10 would make 1."""
    model, rows = model_of(layers=(0, 3)), rows_of("bert")
    with torch.no_grad():
        for exit_ in model.exits:
            exit_.classifier.weight.zero_()
        model.exits[1].classifier.weight[0, 0] = 1
        model.exits[1].weights.copy_(torch.tensor([1, 2**-10]))
        model.dense.weight.zero_()
        model.dense.bias.fill_(10)  # the pooled state is 1
        model.exits[1].classifier.bias.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        lefts = leave(model, ExitRule(LAST), rows, size)
    expected = math.exp(1 + 2**-10) / (math.exp(1 + 2**-10) + 2)
    assert [left.confidence for left in lefts] == pytest.approx([expected] * 24, abs=1e-7)


def test_only_what_must_be_run_is_run(monkeypatch):
    model, rows = model_of(), rows_of("bert", count=1)
    layers = list(model.encoder.encoder.layer)
    ran: list[int] = []
    for number, layer in enumerate(layers):
        layer.register_forward_hook(lambda m, i, o, number=number: ran.append(number))
    leave(model, ExitRule(PATIENCE, 1), rows, 1)
    assert ran == [0]
    ran.clear()
    leave(model, ExitRule(PATIENCE, 1), rows_of("bert"), 6)
    assert ran == [0] * 4


def test_changed_weights_change_predictions():
    """What inference keeps of the classifiers must not outlive a training step."""
    model, rows = model_of(), rows_of("bert")
    before = leave(model, ExitRule(LAST), rows, 5)
    with torch.no_grad():
        model.exits[2].classifier.weight.neg_()
        model.exits[2].classifier.bias.neg_()
        expected = model.exit_logits(rows)[2].argmax(-1).tolist()
    after = leave(model, ExitRule(LAST), rows, 5)
    assert [left.answer for left in after] == expected != [left.answer for left in before]


def test_unfinished_rows_are_put_into_as_few_batches_as_hold_them(monkeypatch):
    model, rows = model_of(), rows_of("bert", count=24)
    rule = ExitRule(THRESHOLD, 0.8)
    sizes: list[int] = []
    model.encoder.encoder.layer[1].register_forward_hook(lambda m, i, o: sizes.append(len(o)))
    lefts = leave(model, rule, rows, 6)
    going_on = sum(left.exit > 0 for left in lefts)
    assert 0 < going_on < 24
    assert sizes[: math.ceil(going_on / 6)] == [
        *[6] * (going_on // 6),
        *([going_on % 6] if going_on % 6 else []),
    ]


def test_answers_come_in_the_batchs_order():
    model, rows = model_of(), rows_of("bert")
    forward = leave(model, ExitRule(THRESHOLD, 0.7), rows, 5)
    backward = leave(
        model, ExitRule(THRESHOLD, 0.7), {key: value.flip(0) for key, value in rows.items()}, 5
    )
    assert [(left.answer, left.exit) for left in forward] == [
        (left.answer, left.exit) for left in reversed(backward)
    ]
    assert all(
        a.confidence == pytest.approx(b.confidence, abs=1e-5)
        for a, b in zip(forward, reversed(backward), strict=True)
    )
