"""Predicted run times: what makes them longer, and how measured ones refine them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from longwatt.config.documents import normalise
from longwatt.config.studies import read_study
from longwatt.plan.data_sizes import SCROLLS_DATA, UNKNOWN_DATA, Data, data_of
from longwatt.plan.model_shapes import Shape, shape_of
from longwatt.plan.runtimes import RuntimeModel
from longwatt.plan.work import (
    input_tokens,
    mean_steps,
    median_steps,
    per_device_batch,
    predict_seconds,
    training_work,
)
from longwatt.study import settings
from longwatt.study.cells import expand

STUDY = """
title: Tiny
datasets:
  needle: {source: needle, metric: f1,
           options: {words_per_document: 4000, train: 640, validation: 100, test: 4}}
tokenizers: {bpe: {kind: byte_level_bpe, vocab_size: 600}}
models:
  small: &model {family: led, initialisation: random, tokenizer: bpe,
                 config: {d_model: 64, attention_window: 32}}
  other: *model
budgets:
  one: {gpus: 1, per_device_batch_size: 4}
  eight: {gpus: 8, per_device_batch_size: 4}
training: {max_steps: 100, validation: {every_steps: 50}}
inference: {greedy: {split: validation}, single: {split: validation, batch_size: 1}}
grid:
  - {datasets: [needle], models: [small, other], seq_lens: [512, 1024],
     budgets: [one, eight], seeds: [1, 2]}
"""
DATA = Data({"train": 640, "validation": 100}, 4000.0, 20.0)


@pytest.fixture
def model(tmp_path, study_schema) -> RuntimeModel:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    study = read_study(path, study_schema)
    return RuntimeModel.of(study, expand(study), {}, str(tmp_path))


def cell(length: int = 512, model: str = "small", budget: str = "one", seed: int = 1) -> str:
    return f"needle/{model}/{length}/{budget}/generated/seed{seed}"


def measure(model: RuntimeModel, path: str = "fast", asked: str = "fast", **seconds: float) -> None:
    """Write a summary.csv of training times; cells are c_{length}_{model}_{budget}_{seed}.

    All took the same path of attention, whatever was asked for.
    """
    facts = "model,seq_len,attention,attention_asked,inference_attention"
    lines = [f"cell,inference,train_runtime_s,inference_runtime_s,{facts}"]
    for name, value in seconds.items():
        _, length, kind, budget, seed = name.split("_")
        lines += [
            f"{cell(int(length), kind, budget, int(seed))},{point},{value},NA,"
            f"{kind},{length},{path},{asked},{path}"
            for point in ("greedy", "single")
        ]
    model.summary.write_text("\n".join(lines) + "\n")


def chosen(model: RuntimeModel, **changes) -> dict:
    """A cell's settings with some changed."""
    found = settings.finetune_settings(model.study, model.cells[cell()])
    for key, value in changes.items():
        parts = ("training", "budget", "generation", "comparison")
        block = next(b for b in (found, *(found[part] for part in parts)) if key in b)
        block[key] = value
    return found


def test_a_forward_pass_is_two_operations_per_weight_and_the_attention():
    shape = Shape()
    weights = 12 * (
        4 * 1024**2 + 2 * 1024 * 4096
    )  # of BART-large's encoder: projections and feed-forward blocks
    assert shape.encode(1000) == pytest.approx(1000 * (2 * weights + 12 * 4 * 1024 * 1000))


def test_sparse_attention_grows_with_the_length_and_full_attention_with_its_square():
    narrow = dict(d_model=16, encoder_ffn_dim=16, encoder_layers=2)
    growth = {}
    for family, config in (
        ("led", {"attention_window": 64}),
        ("bigbird_pegasus", {"block_size": 16}),
        ("seq2seq", {}),
    ):
        shape = shape_of(family, narrow | config)
        growth[family] = shape.encode(8192) / shape.encode(4096)
    assert growth["led"] == pytest.approx(2, rel=0.01) and growth[
        "bigbird_pegasus"
    ] == pytest.approx(2)
    assert growth["seq2seq"] > 3.9
    full = shape_of(
        "bigbird_pegasus", narrow | {"block_size": 16, "attention_type": "original_full"}
    )
    assert full.encode(4096) == shape_of("seq2seq", narrow).encode(4096)
    dense_below = shape_of("bigbird_pegasus", narrow | {"block_size": 64})  # (5 + 2 x 3) x 64 = 704
    assert dense_below.encode(704) == full.encode(704) and dense_below.encode(
        705
    ) / 3 < full.encode(705)


@pytest.mark.parametrize("window", [2, 8, 32])
@pytest.mark.parametrize("length", [1, 2, 5, 16, 17, 32, 33, 100])
def test_the_fast_path_of_led_computes_the_pairs_of_its_pattern_and_no_others(window, length):
    shape = shape_of("led", {"d_model": 16, "attention_window": window}, attention="fast")
    places = range(length)
    near = sum(abs(one - other) <= window // 2 for one in places for other in places)
    assert shape._seen(length) * length == pytest.approx(min(length**2, near + 2 * length))


@pytest.mark.parametrize(("length", "padded"), [(20, 32), (32, 32), (33, 64), (128, 128)])
def test_the_stock_path_of_led_pads_and_computes_chunks_that_overlap(length, padded):
    shape = shape_of("led", {"d_model": 16, "attention_window": 32}, attention="stock")
    chunks = 2 * padded // 32 - 1  # each of 32 x 32, from the middle of the one before
    assert shape._seen(padded) * padded == pytest.approx(chunks * 32**2)
    assert shape.encode(length) == shape.encode(padded)
    fast = shape_of("led", {"d_model": 16, "attention_window": 32}, attention="fast")
    assert shape.encode(length) > fast.encode(length)
    assert shape_of("led", {"d_model": 16, "attention_window": 32}) == shape


def test_the_fast_path_of_bigbird_takes_what_its_operations_say():
    stock, fast = (shape_of("bigbird_pegasus", {}, attention=path) for path in ("stock", "fast"))
    assert stock.encode(4096) == pytest.approx(3 * fast.encode(4096))
    assert stock.encode(704) == fast.encode(704), "full attention below the threshold"


def test_configurations_of_other_families_are_understood():
    t5 = shape_of(
        "seq2seq",
        {"d_model": 512, "num_layers": 6, "num_decoder_layers": 4, "d_ff": 1024, "vocab_size": 99},
    )
    assert t5 == Shape(512, 6, 4, 1024, 1024, 99)
    assert shape_of("seq2seq", {}) == Shape()
    assert shape_of("led", {"attention_window": [100, 300]}).window == 201


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"seq_len": 512}, {"seq_len": 2048}),
        ({"seq_len": 4096, "padding": "longest"}, {"seq_len": 16384, "padding": "max_length"}),
        ({"gradient_accumulation_steps": 1}, {"gradient_accumulation_steps": 4}),
        ({"max_steps": 100}, {"max_steps": 300}),
        ({"activation_checkpointing": False}, {"activation_checkpointing": True}),
        ({"num_beams": 1}, {"num_beams": 64}),
        ({"protocol": "teacher_forced"}, {"protocol": "generated"}),
        ({"precision": "bf16"}, {"precision": "fp32"}),
        ({"gpus": 1}, {"gpus": 0}),
        ({"per_device_batch_size": 4}, {"per_device_batch_size": "largest"}),
    ],
)
def test_what_makes_a_training_longer(model, less, more):
    seconds = [
        training_work(chosen(model, **change), Shape(), DATA).seconds for change in (less, more)
    ]
    assert 0 < seconds[0] < seconds[1]


def test_devices_share_the_examples_of_a_prediction(model):
    study, cells = model.study, model.cells
    one, eight = (
        settings.predict_settings(study, cells[cell(budget=b)], "single") for b in ("one", "eight")
    )
    assert predict_seconds(one, Shape(), DATA) / predict_seconds(
        eight, Shape(), DATA
    ) == pytest.approx(100 / 13)


def test_steps_end_between_the_first_possible_stop_and_the_last(model):
    for steps in (median_steps, mean_steps):
        assert (
            steps(chosen(model, max_steps=100), DATA) == 100
        )  # patience 3 at 50 steps cannot stop it
    assert median_steps(chosen(model, max_steps=20000), DATA) == math.sqrt(200 * 20000)
    drawn = [200 * 100 ** ((n + 0.5) / 5000) for n in range(5000)]  # log-uniform from 200 to 20,000
    assert mean_steps(chosen(model, max_steps=20000), DATA) == pytest.approx(
        sum(drawn) / 5000, rel=1e-3
    )
    per_epoch = 640 / 4
    assert median_steps(chosen(model, max_steps=None, max_epochs=1), DATA) == per_epoch


def test_what_is_known_of_a_dataset():
    facts = {
        "splits": {"train": {"examples": 5, "rows": 9, "words_in_mean": 70, "words_out_mean": 3}}
    }
    facts["splits"]["validation"] = {
        "examples": 4, "rows": 8, "words_in_mean": 60, "words_out_mean": 3,
    }  # fmt: skip
    rows, inputs = {"train": 9, "validation": 8}, {"train": 5, "validation": 4}
    assert data_of("scrolls", {"task": "qmsum"}, facts) == Data(rows, 70, 3, inputs)
    assert data_of("scrolls", {"task": "qmsum"}, {}) == SCROLLS_DATA["qmsum"]
    assert data_of("jsonl", {}, {}) == UNKNOWN_DATA
    needle = data_of(
        "needle", {"words_per_document": 40, "train": 6, "validation": 2, "test": 1}, {}
    )
    sizes = {"train": 6, "validation": 2, "test": 1}
    assert needle == Data(sizes, 40, 2, sizes)
    options = {"words_per_document": 40, "train": 6, "validation": 2, "test": 1}
    assert data_of("squad_articles", options, {}) == Data(sizes, 50.0, 3.2, sizes)


def test_predictions_are_counted_by_input_or_by_reference():
    known = Data({"validation": 1800}, 70, 3, {"validation": 1000})
    assert known.predictions("validation", None, "best") == 1000
    assert known.predictions("validation", None, "each") == 1800
    assert known.predictions("validation", 10, "best") == 10
    assert known.predictions("validation", 10, "each") == 18
    rows_alone = Data({"validation": 1800}, 70, 3)
    assert {rows_alone.predictions("validation", None, kind) for kind in ("best", "each")} == {1800}
    assert known.predictions("test", None, "each") == 0


def test_a_validation_of_every_reference_takes_longer(model):
    data = Data({"train": 640, "validation": 1800}, 4000.0, 20.0, {"train": 640, "validation": 900})
    best, each = chosen(model), chosen(model, references="each")
    works = [training_work(settings_, Shape(), data) for settings_ in (best, each)]
    assert works[1].validation_s / works[0].validation_s == pytest.approx(
        math.ceil(1800 / 16) / math.ceil(900 / 16)
    )
    point = settings.predict_settings(model.study, model.cells[cell()], "single")
    points = [{**point, "references": kind} for kind in ("best", "each")]
    seconds = [predict_seconds(point, Shape(), data) for point in points]
    assert seconds[1] / seconds[0] == pytest.approx(2)


def test_a_prediction_is_scaled_by_the_measured_cells_most_like_it(model):
    plain = {name: model.modelled(name, "finetune") for name in model.cells}
    three, five = 3 * plain[cell()], 5 * plain[cell(1024, "other", "eight")]
    measure(model, c_512_small_one_1=three, c_1024_other_eight_1=five)
    factors = {
        cell(seed=2): (3, "dataset, model, seq_len and budget", 1),
        cell(1024): (3, "model and budget", 1),
        cell(budget="eight"): (3, "model", 1),
        cell(model="other", budget="eight"): (5, "model and budget", 1),
        cell(model="other"): (5, "model", 1),
    }
    for name, (factor, refined_by, cells) in factors.items():
        found = model.predict(name, "finetune")
        assert (found.refined_by, found.cells) == (refined_by, cells), name
        assert found.seconds == pytest.approx(factor * plain[name])
    assert model.predict(cell(), "predict/greedy").refined_by is None  # NA is no measurement


def test_several_measured_cells_count_as_their_geometric_mean_and_one_can_be_left_out(model):
    plain = model.modelled(cell(), "finetune")
    measure(model, c_512_small_one_1=2 * plain, c_512_small_one_2=8 * plain)
    assert model.predict(cell(), "finetune").seconds == pytest.approx(4 * plain)
    assert (
        model.predict(cell(), "finetune", without=cell()).refined_by is None
    )  # both seeds are left out together
    longer = 5 * model.modelled(cell(1024), "finetune")
    measure(
        model, c_512_small_one_1=2 * plain, c_512_small_one_2=8 * plain, c_1024_small_one_1=longer
    )
    three = RuntimeModel(model.study, model.cells, {}, {}, model.summary)
    left = three.predict(cell(seed=2), "finetune", without=cell())
    wanted = (pytest.approx(5 * plain), "model and budget", 1)
    assert (left.seconds, left.refined_by, left.cells) == wanted
    measure(model, c_512_small_one_1=2 * plain)
    alone = RuntimeModel(model.study, model.cells, {}, {}, model.summary)
    assert alone.predict(cell(), "finetune", without=cell()).refined_by is None


def again(model: RuntimeModel, **changes) -> RuntimeModel:
    """Foretell again, with the summary as it is now and other entries of models."""
    study = normalise({**model.study, "models": {**model.study["models"], **changes}})
    return RuntimeModel(study, model.cells, {}, {}, model.summary)


def test_the_speed_of_one_path_of_attention_is_no_evidence_for_the_other(model):
    plain = model.modelled(cell(), "finetune")
    measure(model, path="stock", asked="stock", c_512_small_one_1=2 * plain)
    for name in (cell(), cell(seed=2), cell(1024), cell(model="other")):
        assert model.predict(name, "finetune").refined_by is None
    assert model.measured == {}
    stock = {"attention": "stock"}
    slow = again(model, other={**model.study["models"]["other"], **stock})
    assert slow.predict(cell(model="other"), "finetune").refined_by is None, "small is fast now"
    slow = again(model, small={**model.study["models"]["small"], **stock})
    assert slow.predict(cell(seed=2), "finetune").refined_by.startswith("dataset")
    assert slow.predict(cell(model="other"), "finetune").refined_by is None


def test_models_of_one_path_are_evidence_for_each_other(model):
    measure(model, c_512_small_one_1=2 * model.modelled(cell(), "finetune"))
    assert model.predict(cell(model="other"), "finetune").refined_by == "study"


def test_a_model_that_needs_the_stock_path_is_foretold_by_it(model):
    plain = model.modelled(cell(), "finetune")
    measure(model, path="stock", asked="fast", c_512_small_one_1=2 * plain)
    assert model.predict(cell(seed=2), "finetune").cells == 1
    paths = [model.attention(model.cells[name]) for name in (cell(), cell(1024))]
    assert paths == ["stock", "fast"], "another length may do without it"


def test_results_that_do_not_say_their_path_took_the_stock_one(model):
    lines = ["cell,inference,train_runtime_s", f"{cell()},greedy,5"]
    model.summary.write_text("\n".join(lines) + "\n")
    assert model.predict(cell(), "finetune").refined_by is None
    entry = {**model.study["models"]["small"], "attention": "stock"}
    assert again(model, small=entry).predict(cell(), "finetune").cells == 1


def test_cells_measured_with_other_threads_scale_only_where_there_are_no_others(model):
    plain = {name: model.modelled(name, "finetune") for name in model.cells}
    rows = {cell(1024): ("9", "2 / 1"), cell(model="other"): ("3", "2"), cell(seed=2): ("5", "NA")}
    head = "cell,inference,train_runtime_s,inference_runtime_s,threads,inference_threads,"
    head += "attention,attention_asked,inference_attention"
    lines = [
        f"{name},greedy,{float(factor) * plain[name]},{plain[name]},{threads},4,fast,fast,fast"
        for name, (factor, threads) in rows.items()
    ]
    model.summary.write_text("\n".join([head, *lines]) + "\n")

    def found(threads: int | None, left_out: str = ""):
        known = dict.fromkeys(model.cells, threads) if threads else {}
        one = replace(model, threads=known, left_out=frozenset([left_out]), _modelled={})
        told = one.predict(cell(), "finetune")
        return pytest.approx(told.seconds / plain[cell()]), told.refined_by, told.cells

    nearest = "dataset, model, seq_len and budget"
    assert (5, nearest, 1) == found(None) == found(2), "unknown threads are no others"
    assert found(None, cell(seed=2)) == (9, "model and budget", 1)
    assert found(2, cell(seed=2)) == (3, "study", 1), "less alike, but with as many threads"
    assert found(1, cell(seed=2)) == (9, "model and budget, with other threads", 1)
    four = replace(model, threads=dict.fromkeys(model.cells, 4), _modelled={})
    assert four.predict(cell(), "predict/greedy").refined_by == nearest
    assert four.at_most(cell()).refined_by is None, "no steps were measured"


@pytest.mark.parametrize(
    "text", ["", "cell,train_runtime_s\nnot a cell,5\n", "\0", "cell\nneedle\n"]
)
def test_a_summary_that_says_nothing_is_no_error(model, text):
    Path(model.summary).write_text(text)
    assert model.predict(cell(), "finetune").refined_by is None


def test_configurations_come_from_checkpoints_tokenizers_and_the_study(model):
    study = normalise({**model.study, "models": {**model.study["models"]}})
    known = RuntimeModel(
        study, model.cells, {"small": {"decoder_layers": 3, "d_model": 9}}, {}, model.summary
    )
    shape = known.shapes["small"]
    assert (shape.decoder_layers, shape.d_model, shape.vocabulary, shape.window) == (3, 64, 600, 33)


def test_processes_share_the_cpu_that_one_would_have():
    shape = Shape(d_model=64, encoder_layers=1, decoder_layers=1)
    study = {"max_steps": 100, "max_epochs": 1, "max_target_tokens": 8}
    study["activation_checkpointing"] = False
    validation = {"split": "validation", "max_examples": None, "batch_size": 8, "every_steps": 50}
    validation["patience"] = 9

    def seconds(batch: int, processes: int) -> float:
        budget = {"gpus": 0, "processes": processes, "per_device_batch_size": batch}
        budget["gradient_accumulation_steps"] = 1
        training = {**study, "padding": "max_length", "validation": validation}
        generation = {"max_new_tokens": 8, "min_new_tokens": 0, "num_beams": 1}
        chosen = {"seq_len": 4096, "protocol": "generated", "budget": budget, "training": training}
        compared = {"comparison": {"references": "best"}}
        return training_work({**chosen, **compared, "generation": generation}, shape, DATA).seconds

    assert seconds(64, 1) == pytest.approx(seconds(32, 2), rel=0.1)


ADAPTED = """
  tuned: {family: causal, initialisation: checkpoint, path: base, tokenizer: bpe,
          config: {model_type: llama, hidden_size: 64}, lora: LORA}
  whole: {family: causal, initialisation: checkpoint, path: base, tokenizer: bpe,
          config: {model_type: llama, hidden_size: 64}}
  twin: {family: causal, initialisation: checkpoint, path: base, tokenizer: bpe,
         config: {model_type: llama, hidden_size: 64}, lora: {rank: 4}}
"""


def adapted(tmp_path, schema, lora: str = "{rank: 8}") -> RuntimeModel:
    """Llamas with adapters and without, none of them measured."""
    text = STUDY.replace("budgets:\n", ADAPTED.replace("LORA", lora)[1:] + "budgets:\n", 1)
    (tmp_path / "base").mkdir(exist_ok=True)
    path = tmp_path / "tiny.yaml"
    path.write_text(text.replace("models: [small, other]", "models: [tuned, whole, twin]"))
    study = read_study(path, schema)
    return RuntimeModel.of(study, expand(study), {}, str(tmp_path))


def measured_ratio(model: RuntimeModel, name: str, ratio: float, part: str = "train") -> None:
    """Let a cell have taken so many times what its operations say."""
    point = "finetune" if part == "train" else "predict/greedy"
    seconds = ratio * model.modelled(cell(model=name), point)
    found = {"cell": cell(model=name), "inference": "greedy", "attention": "sdpa"}
    found |= {"model": name, "seq_len": "512", "attention_asked": "sdpa"}
    found |= {f"{part}_runtime_s": str(seconds), "inference_attention": "sdpa"}
    model.rows.append(found)


def test_adapters_are_scaled_by_adapters_and_by_others_where_there_are_none(tmp_path, study_schema):
    model = adapted(tmp_path, study_schema)
    measured_ratio(model, "whole", 2.0)
    lone = model.predict(cell(model="tuned"), "finetune")
    assert lone.seconds == pytest.approx(2 * model.modelled(cell(model="tuned"), "finetune"))
    assert lone.refined_by == "study, with other adapters or none"
    model = adapted(tmp_path, study_schema)
    measured_ratio(model, "whole", 2.0)
    measured_ratio(model, "twin", 3.0)
    found = model.predict(cell(model="tuned"), "finetune")
    assert found.seconds == pytest.approx(3 * model.modelled(cell(model="tuned"), "finetune"))
    assert found.refined_by == "study"
    assert model.predict(cell(512, "whole"), "finetune").refined_by.startswith("dataset, model")


def test_merged_adapters_predict_at_the_speed_of_whole_models(tmp_path, study_schema):
    model = adapted(tmp_path, study_schema, "{rank: 8, merge: true}")
    measured_ratio(model, "whole", 2.0, "inference")
    measured_ratio(model, "twin", 5.0, "inference")
    found = model.predict(cell(model="tuned"), "predict/greedy")
    whole = model.modelled(cell(model="whole"), "predict/greedy")
    assert model.modelled(cell(model="tuned"), "predict/greedy") == whole
    assert model.modelled(cell(model="twin"), "predict/greedy") > whole
    assert found.refined_by == "study" and found.seconds == pytest.approx(2 * whole)


def test_a_batch_of_so_many_tokens_holds_as_many_mean_examples_as_fit(model):
    short = replace(DATA, words_in=100.0)  # 140 tokens
    settings_of = chosen(model)
    settings_of["budget"] |= {"max_tokens_per_batch": 1000, "per_device_batch_size": None}
    assert per_device_batch(settings_of, short) == 7
    assert per_device_batch(settings_of, DATA) == 1, "512 tokens each"
    settings_of["budget"]["max_tokens_per_batch"] = 100
    assert per_device_batch(settings_of, DATA) == 1
    settings_of["budget"]["max_tokens_per_batch"] = 1120
    fixed = chosen(model)
    fixed["budget"] |= {"per_device_batch_size": 8}
    assert training_work(settings_of, Shape(), short) == training_work(fixed, Shape(), short)


def test_a_prompt_leaves_room_for_its_answer_and_its_text_counts():
    asked = {
        "seq_len": 256,
        "prompt": {"template": "Say it {query} {input} in short.", "chat": False},
        "padding": "longest",
        "max_target_tokens": 30,
        "generation": {"max_new_tokens": 40},
    }
    assert input_tokens(asked, DATA) == 256 - 40
    short = replace(DATA, words_in=50.0)
    assert input_tokens(asked, short) == pytest.approx((50 + 4) * 1.4)
    with_chat = {**asked, "prompt": {**asked["prompt"], "chat": True}}
    assert input_tokens(with_chat, short) == pytest.approx((50 + 4) * 1.4 + 20)
    assert input_tokens({**asked, "padding": "max_length"}, short) == 216
    packed = {**asked, "training": {"padding": "max_length", "packing": True}}
    del packed["padding"]
    packed["max_target_tokens"] = 30
    packed["training"]["max_target_tokens"] = 30
    assert input_tokens(packed, short) == pytest.approx((50 + 4) * 1.4), "nothing is padded"


def test_a_cascade_is_planned_as_both_of_its_cells(model):
    """Before its threshold is fitted nobody knows how many examples go on to the second one."""
    point = {
        "split": "validation",
        "cascade": {"first": {"seq_len": 512}, "calibrate_on": "greedy"},
    }
    study = {**model.study, "inference": {**model.study["inference"], "both": point}}
    cells = {name: one for name, one in model.cells.items() if one.model == "small"}
    both = RuntimeModel(study, cells, {}, {}, model.summary)

    def seconds(length: int, part: str) -> float:
        return both.predict(cell(length), f"predict/{part}").seconds

    assert seconds(1024, "both") == pytest.approx(seconds(512, "greedy") + seconds(1024, "greedy"))
    assert both.at_most(cell(1024), "predict/both").seconds == seconds(1024, "both")
