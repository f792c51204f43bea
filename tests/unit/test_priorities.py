"""How urgent jobs are."""

from longwatt import priorities
from longwatt.stages import Stages
from longwatt.study import read_study

HOUR, YEAR = 3600.0, 3600 * 24 * 365.0


def test_data_then_many_gpus_then_predictions_then_long_jobs_then_scores_then_the_cpu():
    order = [
        priorities.DATA,
        priorities.of_cell(8, HOUR, trained=True),
        priorities.of_cell(8, YEAR, trained=False),
        priorities.of_cell(8, HOUR, trained=False),
        priorities.of_cell(1, 1.0, trained=True),
        priorities.of_cell(1, 1.02 * HOUR, trained=False),
        priorities.of_cell(1, HOUR, trained=False),
        priorities.of_cell(1, 0.0, trained=False),
        priorities.REDUCTION,
        priorities.of_cell(0, YEAR, trained=True),
        priorities.of_cell(0, YEAR, trained=False),
    ]
    assert order == sorted(order, reverse=True) and len(set(order)) == len(order)
    assert all(type(priority) is int for priority in order)


def test_nothing_is_as_urgent_as_data():
    assert priorities.of_cell(10_000, 2.0**500, trained=True) < priorities.DATA


def test_a_training_counts_with_the_predictions_that_follow_it(tmp_path, study_schema, tiny_study_text):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_study_text.replace("max_steps: 8", "max_steps: 8000"))
    stages = Stages("tiny", read_study(path, study_schema), {})
    short, long = sorted(stages.cells, key=lambda name: stages.cells[name].seq_len)
    assert stages.priority(short) < stages.priority(long) < stages.priority(short, "greedy") < priorities.REDUCTION
    seconds = sum(stages.runtimes.predict(long, part).seconds for part in ("finetune", "predict/greedy"))
    assert stages.priority(long) == priorities.of_cell(0, seconds, trained=False)
