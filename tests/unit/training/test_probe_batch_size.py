"""The search for the largest batch, on memory that is made up and on a process's real memory."""

import json
import math

import pytest
import torch

from longwatt.config.documents import merge
from longwatt.files import read_object
from longwatt.jobs import torch_device
from longwatt.jobs.errors import WorkerError
from longwatt.jobs.worker import Spec
from longwatt.provenance.stamps import write_json
from longwatt.study.cells import expand
from longwatt.study.settings import finetune_settings, probe_key, probe_settings
from longwatt.training import probe_batch_size
from longwatt.training.probe_batch_size import HELD_BACK, Try, attempt, largest, probe
from tests.labelled_study import CONFIG, labelled_study
from tests.tiny_cell import made_from, tiny_data, tiny_study


def machine(base: float, slope: float, limit: float, curve: float = 0.0):
    """A machine on which a batch takes base + slope x batch (+ curve x batch^2)."""

    def attempt(size: int) -> Try:
        need = base + slope * size + curve * size**2
        return Try(size, need <= limit, min(need, limit), 0.0, limit)

    return attempt


@pytest.mark.parametrize("best", [1, 2, 3, 7, 64, 100, 777, 1024])
@pytest.mark.parametrize("curve", [0.0, 1e-3])
def test_the_largest_is_found_in_few_tries(best, curve):
    limit = 10 + best + curve * best**2
    tries = largest(machine(10, 1, limit, curve), 1024)
    assert max(t.batch_size for t in tries if t.fits) == best
    assert len({t.batch_size for t in tries}) == len(tries) <= 4 * math.log2(1024) + 4
    if not curve:
        assert len(tries) <= 6, "a line foretells it"
    overshoot = max(t.batch_size for t in tries)
    assert overshoot <= max(2 * best, best + 2)


def test_nothing_fits_and_everything_fits():
    assert [t.fits for t in largest(machine(10, 1, 5), 1024)] == [False]
    tries = largest(machine(10, 1, 10_000), 37)
    assert all(t.fits for t in tries) and tries[-1].batch_size == 37


def test_memory_that_does_not_grow_evenly_is_searched_all_the_same():
    def attempt(size: int) -> Try:
        return Try(size, size <= 45, 1.0, 0.0, 2.0)

    tries = largest(attempt, 1024)
    assert max(t.batch_size for t in tries if t.fits) == 45 and len(tries) <= 44


# 64 examples in 16 accumulation steps: at most 4 are tried, each in a process that takes seconds.
BUDGET = {
    "per_device_batch_size": "largest",
    "memory_gib_per_gpu": 0.36,
    "gradient_accumulation_steps": 16,
}
LARGEST = {"cpu": {"gpus": 0, **BUDGET}}


def probe_spec(study, data, out, cell) -> Spec:
    out.mkdir(exist_ok=True)
    names = {"probe": "probe.json", "batch_size": "batch_size.json", "work": "work"}
    paths = {**made_from(data), **{name: str(out / file) for name, file in names.items()}}
    return Spec(
        probe_settings(finetune_settings(study, cell)),
        paths,
        {},
        {"rule": "probe_batch_size"},
        str(out / "error.json"),
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> dict:
    # Wide layers, so that an example takes megabytes.
    wide = {
        "d_model": 512,
        "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 512,
        "max_encoder_position_embeddings": 512,
    }
    changes = {"models": {"led": {"config": wide}}, "budgets": LARGEST}
    return merge(tiny_study(tmp_path_factory.mktemp("study")), changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory, study):
    return tiny_data(tmp_path_factory.mktemp("data"), study)


@pytest.fixture
def cell():
    from longwatt.study.cells import Cell

    return Cell("needle", "led", 512, "cpu", "generated", 1)


@pytest.mark.long
def test_on_a_cpu_the_search_runs_against_a_cap_of_memory(study, data, tmp_path, cell, monkeypatch):
    monkeypatch.setenv(
        "OMP_NUM_THREADS", "2"
    )  # the stacks of a large machine's threads would count
    roomy = merge(study, {"budgets": {"cpu": {"memory_gib_per_gpu": 4.0}}})
    one = attempt(probe_spec(roomy, data, tmp_path / "one", cell), 1).peak_gib
    cap = (one + 0.13) / (
        1 - HELD_BACK
    )  # an example takes 0.06 GiB or more: room for one or two more
    capped = merge(study, {"budgets": {"cpu": {"memory_gib_per_gpu": cap}}})
    probe(probe_spec(capped, data, tmp_path / "probe", cell))
    found = json.loads((tmp_path / "probe/probe.json").read_text())
    size = found["per_device_batch_size"]
    assert json.loads((tmp_path / "probe/batch_size.json").read_text()) == {
        "per_device_batch_size": size
    }
    assert found["bounded_by"] == "memory" and 1 <= size < 4
    tried = {t["batch_size"]: t["fits"] for t in found["tries"]}
    assert tried[size] and not tried[size + 1], "the next larger one was tried"
    assert 0 < found["peak_memory_gib"] <= cap - found["held_back_gib"] + 0.01
    assert found["margin_gib"] == pytest.approx(cap - found["peak_memory_gib"])


# Two steps on one example take 0.24 GiB, and this validation batch then takes 0.65.
UNEVEN = {
    "training": {"validation": {"split": "train", "batch_size": 24, "max_examples": None}},
    "generation": {"num_beams": 2, "max_new_tokens": 6},
    "budgets": {"cpu": {"memory_gib_per_gpu": 0.45}},
}


def test_a_validation_batch_that_does_not_fit_is_found_before_training(study, data, tmp_path, cell):
    said = (
        "one example can be trained on, but a validation batch of 24 examples of 512 tokens, each "
        "answered with 2 .* of 6 tokens, does not fit .* lower training.validation.batch_size"
    )
    with pytest.raises(WorkerError, match=said):
        probe(probe_spec(merge(study, UNEVEN), data, tmp_path / "probe", cell))
    assert not (tmp_path / "probe/batch_size.json").exists()


@pytest.mark.long
def test_a_smaller_validation_batch_fits_under_the_same_limit(study, data, tmp_path, cell):
    small = merge(merge(study, UNEVEN), {"training": {"validation": {"batch_size": 1}}})
    found = attempt(probe_spec(small, data, tmp_path / "probe", cell), 1)
    assert found.fits
    # Freed memory stays with the process for a while, so both peaks may be nearly the same.
    assert 0 < found.validation_gib < found.peak_gib + 0.02


def test_the_validation_batch_is_as_wide_and_as_long_as_any_can_be(
    study, data, tmp_path, cell, monkeypatch
):
    from longwatt.models.led import LED

    changed = merge(
        study,
        {
            "training": {"validation": {"batch_size": 5, "max_examples": 12}},
            "generation": {"num_beams": 3, "max_new_tokens": 9},
        },
    )
    seen, predict, order = [], LED.predict, []
    loss = LED.loss

    def noted(self, model, batch, how):
        order.append("predict")
        found = predict(self, model, batch, how)
        rows, width = batch["input_ids"].shape
        shortest = int(batch["attention_mask"].sum(1).min())
        seen.append((rows, width, shortest, {len(ids) for ids in found}, model.training))
        return found

    monkeypatch.setattr(LED, "predict", noted)
    monkeypatch.setattr(LED, "loss", lambda *a: (order.append("loss"), loss(*a))[1])
    spec = probe_spec(changed, data, tmp_path, cell)
    found = probe_batch_size._steps(spec, 1, torch.device("cpu"))
    assert seen == [(5, 512, 511, {9}, False)], "no answer ends early"
    assert order == ["loss"] * 4 + ["predict"], "after the optimiser has its state"
    assert found["validation_gib"] is not None
    assert "validation_gib" not in probe_batch_size._steps(spec, 2, torch.device("cpu"))
    few = merge(changed, {"training": {"validation": {"batch_size": 50, "max_examples": 7}}})
    assert probe_batch_size.validated_together(probe_spec(few, data, tmp_path, cell)) == 7


def test_teacher_forced_validation_predicts_from_whole_targets(
    study, data, tmp_path, cell, monkeypatch
):
    from dataclasses import replace

    from longwatt.models.led import LED

    seen, predict = [], LED.predict

    def noted(self, model, batch, how):
        seen.append((how["protocol"], tuple(batch["labels"].shape)))
        return predict(self, model, batch, how)

    monkeypatch.setattr(LED, "predict", noted)
    forced = replace(cell, protocol="teacher_forced")
    probe_batch_size._steps(probe_spec(study, data, tmp_path, forced), 1, torch.device("cpu"))
    assert seen == [("teacher_forced", (6, 8))]
    assert key(study, forced) != key(study, cell)


def test_a_probe_s_result_tells_of_the_validation_batch(study, data, tmp_path, cell, monkeypatch):
    def fits(spec, size):
        return Try(size, size < 2, 0.1, 0.0, 1.0, validation_gib=0.3 if size == 1 else None)

    monkeypatch.setattr(probe_batch_size, "attempt", fits)
    probe(probe_spec(study, data, tmp_path, cell))
    facts = json.loads((tmp_path / "probe.json").read_text())
    assert (facts["validation_batch_size"], facts["validation_peak_memory_gib"]) == (6, 0.3)


def test_a_prompt_leaves_the_answer_its_room(study, cell):
    settings = probe_settings(finetune_settings(study, cell))
    longer = {**settings, "generation": {**settings["generation"], "max_new_tokens": 20}}
    for prompted, chosen, tokens in (
        (True, settings, 504),
        (True, longer, 492),
        (False, longer, 512),
    ):
        assert len(probe_batch_size._Longest(chosen, prompted, 600).input_ids) == tokens


def test_where_not_one_example_fits_it_says_what_to_set(study, data, tmp_path, cell):
    tight = merge(study, {"budgets": {"cpu": {"memory_gib_per_gpu": 0.05}}})
    with pytest.raises(WorkerError, match="not one example of 512 tokens with 8 target tokens"):
        probe(probe_spec(tight, data, tmp_path / "probe", cell))
    assert not (tmp_path / "probe/batch_size.json").exists()


@pytest.mark.slow
def test_accumulated_gradients_count(study, data, tmp_path, cell):
    peaks = []
    for steps in (1, 2):
        roomy = {"memory_gib_per_gpu": 4.0, "gradient_accumulation_steps": steps}
        changed = merge(study, {"budgets": {"cpu": roomy}})
        peaks.append(attempt(probe_spec(changed, data, tmp_path / str(steps), cell), 2).peak_gib)
    assert peaks[1] > peaks[0], "from the second step on, gradients lie beside activations"


def test_what_is_wrong_beside_memory_is_said_as_it_is(study, data, tmp_path, cell):
    odd = merge(study, {"models": {"led": {"config": {"attention_window": 15}}}})
    with pytest.raises(WorkerError, match="attention_window"):
        probe(probe_spec(odd, data, tmp_path / "probe", cell))


def key(study, cell) -> str | None:
    return probe_key(cell, finetune_settings(study, cell))


def test_cells_of_one_shape_share_a_probe(study, cell):
    from dataclasses import replace

    assert (
        key(study, cell)
        == key(study, replace(cell, seed=2))
        != key(study, replace(cell, seq_len=256))
    )
    given = merge(study, {"budgets": {"cpu": {"per_device_batch_size": {"led": {"512": 3}}}}})
    assert key(given, cell) is None
    assert key(merge(study, {"training": {"validation": {"batch_size": 2}}}), cell) != key(
        study, cell
    )
    assert key(merge(study, {"generation": {"num_beams": 2}}), cell) != key(study, cell)
    mixed = merge(
        study, {"budgets": {"cpu": {"per_device_batch_size": {"led": {"512": "largest"}}}}}
    )
    assert key(mixed, cell) == key(study, cell)


def test_many_words_for_no_memory():
    said = ("CUDA out of memory. Tried", "could not create a primitive")
    assert all(torch_device.out_of_memory(e) for e in (MemoryError(), *map(RuntimeError, said)))
    assert not torch_device.out_of_memory(
        RuntimeError("shapes differ")
    ) and not torch_device.out_of_memory(ValueError("x"))


def test_no_more_is_tried_than_a_step_needs(study, data, tmp_path, cell, monkeypatch):
    tried = []

    def fits(spec, size):
        tried.append(size)
        return Try(size, size <= room, 0.1, 0.0, 1.0)

    monkeypatch.setattr(probe_batch_size, "attempt", fits)
    wanted = {
        "per_device_batch_size": "largest",
        "memory_gib_per_gpu": 1,
        "processes": 2,
        "effective_batch_size": 14,
    }
    changed = {**study, "budgets": {"cpu": {"gpus": 0, **wanted}}}
    for room, found, why in ((99, 7, "effective batch size"), (4, 4, "memory")):
        tried.clear()
        probe(probe_spec(changed, data, tmp_path / str(room), cell))
        facts = json.loads((tmp_path / str(room) / "probe.json").read_text())
        assert (facts["per_device_batch_size"], facts["bounded_by"]) == (found, why) and max(
            tried
        ) <= 7
    assert key(changed, cell) != key(study, cell)


def test_the_path_of_attention_of_the_largest_batch_is_recorded(
    study, data, tmp_path, cell, monkeypatch
):
    def fits(spec, size):
        return Try(size, size < 3, 0.1, 0.0, 1.0, attention="fast" if size < 3 else None)

    monkeypatch.setattr(probe_batch_size, "attempt", fits)
    probe(probe_spec(study, data, tmp_path, cell))
    facts = json.loads((tmp_path / "probe.json").read_text())
    assert (facts["per_device_batch_size"], facts["attention"]) == (2, "fast")


def test_a_probe_steps_by_the_path_in_use_and_says_why_it_is_another(
    study, data, tmp_path, cell, monkeypatch, capsys
):
    from longwatt.models.led import LED

    monkeypatch.setattr(LED, "_attach", lambda self, built, path: "this is a test")
    spec = probe_spec(study, data, tmp_path, cell)
    for size in (1, 2):
        found = probe_batch_size._steps(spec, size, torch.device("cpu"))
        assert found["attention"] == "stock"
    assert capsys.readouterr().out.count("attention is stock: this is a test") == 1


def test_an_example_of_a_classifier_is_its_text_and_one_label(data, tmp_path, monkeypatch):
    from longwatt.models.early_exit import FAMILY

    facts = tmp_path / "dataset.json"
    write_json(facts, {**read_object(data / "dataset.json"), "labels": ["a", "b", "c"]})
    cell, config = next(iter(expand(labelled_study()).values())), {**CONFIG, "vocab_size": 600}
    study = labelled_study(
        models={"exits": {"config": config}}, budgets={"gpu": BUDGET | {"gpus": 0}}
    )
    settings_ = probe_settings(finetune_settings(study, cell))
    assert "max_target_tokens" not in settings_ and probe_key(cell, finetune_settings(study, cell))
    spec = Spec(
        settings_, {**made_from(data), "dataset": str(facts), "work": str(tmp_path)}, {}, {}, ""
    )
    seen, loss = [], FAMILY.loss

    def noted(self, model, batch):
        seen.append(
            (tuple(batch["input_ids"].shape), batch["labels"].tolist(), model.config.labels)
        )
        return loss(self, model, batch)

    monkeypatch.setattr(FAMILY, "loss", noted)
    probe_batch_size._steps(spec, 3, torch.device("cpu"))
    assert len(seen) == 4  # two steps of two accumulated batches
    assert {(shape, str(labels), tuple(names)) for shape, labels, names in seen} == {
        ((3, 64), str([[0]] * 3), ("a", "b", "c"))
    }
