"""How urgent jobs are."""

from longwatt.config.studies import read_study
from longwatt.plan import urgency as plan_urgency
from longwatt.study.checks import checked_stages

HOUR, YEAR = 3600.0, 3600 * 24 * 365.0


def test_data_then_many_gpus_then_predictions_then_long_jobs_then_scores_then_the_cpu():
    order = [
        plan_urgency.DATA,
        plan_urgency.of_cell(8, HOUR, trained=True),
        plan_urgency.of_cell(8, YEAR, trained=False),
        plan_urgency.of_cell(8, HOUR, trained=False),
        plan_urgency.of_cell(1, 1.0, trained=True),
        plan_urgency.of_cell(1, 1.02 * HOUR, trained=False),
        plan_urgency.of_cell(1, HOUR, trained=False),
        plan_urgency.of_cell(1, 0.0, trained=False),
        plan_urgency.REDUCTION,
        plan_urgency.of_cell(0, YEAR, trained=True),
        plan_urgency.of_cell(0, YEAR, trained=False),
    ]
    assert order == sorted(order, reverse=True) and len(set(order)) == len(order)
    assert all(type(priority) is int for priority in order)


def test_nothing_is_as_urgent_as_data():
    assert plan_urgency.of_cell(10_000, 2.0**500, trained=True) < plan_urgency.DATA


def test_a_training_counts_with_the_predictions_that_follow_it(
    tmp_path, study_schema, tiny_study_text
):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_study_text.replace("max_steps: 8", "max_steps: 8000"))
    stages = checked_stages("tiny", read_study(path, study_schema), {})
    short, long = sorted(stages.cells, key=lambda name: stages.cells[name].seq_len)
    urgency = plan_urgency.Urgency(stages)
    assert (
        urgency.of(short) < urgency.of(long) < urgency.of(short, "greedy") < plan_urgency.REDUCTION
    )
    seconds = sum(
        urgency.runtimes.predict(long, part).seconds for part in ("finetune", "predict/greedy")
    )
    assert urgency.of(long) == plan_urgency.of_cell(0, seconds, trained=False)
