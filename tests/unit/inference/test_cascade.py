"""A cascade answers as its two cells do alone: which one, its threshold says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from longwatt.config.documents import merge
from longwatt.inference.cascade import CascadePredictor
from longwatt.inference.predict import infer
from longwatt.inference.predictor import BatchResult
from longwatt.jobs.sigterm import Stopped
from longwatt.models.family import Answer
from longwatt.study.cascade_cells import with_first
from longwatt.study.cascades import MEAN, is_unsure, named_first
from longwatt.training.finetune import train
from tests.tiny_cell import inference_spec, run_files, training_spec

BATCH = 3


class Fake:
    """A predictor that is as sure of an example as its number says."""

    def __init__(self, name: str, sure: dict[int, float | None]) -> None:
        self.name, self.sure, self.asked, self.now = name, sure, [], 0

    def predict(self, examples, groups):
        for group in groups:
            self.asked.append(list(group))
            self.now += 10
            answers = [Answer(f"{self.name}{n}", 2, {MEAN: self.sure.get(n, 0.0)}) for n in group]
            yield BatchResult([f"e{n}" for n in group], answers, [5] * len(group), self.now,
                              self.now + 10)  # fmt: skip


def test_the_unsure_of_several_batches_share_batches_of_the_last_cell():
    sure = {0: -2.0, 1: -0.1, 2: None, 3: -3.0, 4: -1.0, 5: -0.5, 6: -9.0}
    first, last = Fake("a", sure), Fake("b", {})
    cascade = CascadePredictor(first, [], last, MEAN, -1.0, BATCH)
    (found,) = cascade.predict([], [range(7)])
    assert first.asked == [[0, 1, 2], [3, 4, 5], [6]]
    assert last.asked == [[0, 2, 3], [6]], "what is unknown is unsure, the threshold itself sure"
    assert [answer.text for answer in found.answers] == ["b0", "a1", "b2", "b3", "a4", "a5", "b6"]
    assert found.ids == [f"e{n}" for n in range(7)]
    assert found.input_tokens == [10, 5, 10, 10, 5, 5, 10]
    assert [answer.output_tokens for answer in found.answers] == [4, 2, 4, 4, 2, 2, 4]
    assert found.answers[3].facts == {MEAN: 0.0, "escalated": True, f"first_{MEAN}": -3.0}
    assert found.answers[1].facts == {MEAN: -0.1, "escalated": False, f"first_{MEAN}": -0.1}
    assert (found.start_ns, found.end_ns) == (10, 30)


def test_a_sure_group_asks_the_last_cell_nothing():
    first, last = Fake("a", {}), Fake("b", {})
    (found,) = CascadePredictor(first, [], last, MEAN, -1.0, BATCH).predict([], [[4, 5]])
    assert last.asked == [] and [answer.text for answer in found.answers] == ["a4", "a5"]


@pytest.fixture(scope="module")
def cells(study, data, tmp_path_factory) -> dict[int, Path]:
    """Two trained cells by their length."""
    found = {}
    for seq_len in (32, 64):
        found[seq_len] = tmp_path_factory.mktemp(f"cell{seq_len}")
        train(training_spec(study, data, found[seq_len], {"seq_len": seq_len}))
    return found


def rows(folder: Path) -> dict[str, dict]:
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_a_cascade_run_for_real_answers_as_its_cells_do_alone_though_it_is_stopped(
    study, data, cells, tmp_path, monkeypatch
):
    specs = {
        seq_len: inference_spec(study, data, folder / "model", tmp_path / str(seq_len),
                                {"seq_len": seq_len})
        for seq_len, folder in cells.items()
    }  # fmt: skip
    for spec in specs.values():
        infer(spec)
    alone = {seq_len: rows(tmp_path / str(seq_len)) for seq_len in specs}
    assert all(row[MEAN] <= 0 for found in alone.values() for row in found.values())
    threshold = sorted(row[MEAN] for row in alone[32].values())[5] + 1e-9
    whole = inference_spec(study, data, cells[64] / "model", tmp_path / "both")
    cascade = {"confidence": MEAN}
    settings = with_first(whole.settings, specs[32].settings, "short", cascade)
    (tmp_path / "threshold.json").write_text(json.dumps({"threshold": threshold}))
    inputs = ("tokens", "tokenized", "tokenizer", "dataset", "model")
    first = named_first({name: specs[32].paths[name] for name in inputs})
    paths = {**whole.paths, **first, "threshold": str(tmp_path / "threshold.json")}
    alone_in_its_batch = {"inference": {"batch_size": 2, "regroup_batches": 1}}
    spec = replace(whole, settings=merge(settings, alone_in_its_batch), paths=paths)
    with monkeypatch.context() as patched, pytest.raises(Stopped, match="with 2 batches kept"):
        asked_to_end = iter([False, True])
        patched.setattr("longwatt.jobs.sigterm.asked", lambda: next(asked_to_end))
        infer(spec)
    infer(replace(spec, energy_log=run_files(tmp_path / "both")[1]))
    found = rows(tmp_path / "both")
    asked = {id_ for id_, row in alone[32].items() if is_unsure(row[MEAN], threshold)}
    assert len(asked) == 6 and len(found) == 12
    for id_, row in found.items():
        own = alone[64 if id_ in asked else 32][id_]
        assert row["escalated"] == (id_ in asked)
        assert row["prediction"] == own["prediction"]
        assert row[MEAN] == pytest.approx(own[MEAN], abs=1e-5)
        assert row[f"first_{MEAN}"] == pytest.approx(alone[32][id_][MEAN], abs=1e-5)
    report = json.loads((tmp_path / "both/inference.json").read_text())
    assert report["cascade"]["escalation_rate"] == pytest.approx(0.5)
    assert report["samples"] == 12
