"""`longwatt choose` as people call it: what it prints, refuses and returns."""

import json
import shutil
import subprocess
import sys

import pytest

from longwatt.__main__ import run
from longwatt.answer import command
from tests.answer_study import AnswerStudy


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A folder with the results of one study, whose file is not here."""
    study = AnswerStudy(tmp_path / "results/small")
    study.add("cheap", -25, train_kwh=1, joules=3.6)
    study.add("good", 0, train_kwh=2, joules=7.2)
    study.add("other", 0, dataset="e")
    study.write()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_choice_for_every_dataset_with_the_table_of_break_even(there, capsys):
    assert run(["choose", "--study", "small", "--min-score", "40"]) == 0
    said = capsys.readouterr()
    assert "Take good, 64 tokens (random weights)." in said.out and "\ne\n" in said.out
    assert "d/good/64/cpu/generated/seed1" in said.out
    assert "Every two cells on the front" in said.out
    assert "studies/small.yaml is not here" in said.err


def test_without_a_name_the_study_is_that_of_config(there, capsys):
    assert run(["choose"]) == 1
    assert "no config.yaml that names a study" in capsys.readouterr().err
    (there / "config.yaml").write_text("study: small\n")
    assert run(["choose", "--dataset", "e"]) == 0
    assert "Take other, 64 tokens" in capsys.readouterr().out


def test_nothing_qualifies_is_status_1_and_names_the_nearest(there, capsys):
    assert run(["choose", "--study", "small", "--dataset", "d", "--min-score", "90"]) == 1
    assert "Nothing qualifies. Nearest is good, 64 tokens" in capsys.readouterr().out


def test_json_is_what_the_page_reads(there, capsys):
    assert run(["choose", "--study", "small", "--json", "--requests", "1e3"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["requests"] == 1000 and set(facts["recommendations"]) == {"d", "e"}
    assert facts["points"][0]["frontier"]["lifecycle_energy"]["status"] == "on"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--study", "smal"], "did you mean 'small'?"),
        (["--study", "small", "--dataset", "f"], "there is no dataset 'f'"),
        (["--study", "small", "--model", "goood"], "did you mean 'good'?"),
        (["--study", "small", "--seeds", "7"], "no cell of small has the seeds [7]"),
        (["--study", "small", "--seeds", "1", "7"], "no cell of small has the seeds [7]"),
        (["--study", "small", "--page", "."], "the page . cannot be written"),
        (["--csv", "none.csv"], "none.csv is not there"),
        (["--csv", "none.csv", "--seeds", "7"], "none.csv"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(there, capsys, arguments, said):
    assert command.main(arguments) == 1
    refused = capsys.readouterr().err
    assert said in refused and refused.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--min-score", "101"], ["--min-score", "nan"], ["--max-kwh", "0"], ["--max-ms", "-1"],
        ["--max-gib", "inf"], ["--requests", "0.5"], ["--requests", "-1"], ["--max-cost", "much"],
        ["--csv", "too.csv"], ["--requests", "1e300"],
    ],
)  # fmt: skip
def test_nonsense_is_refused(there, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--study", "small", *arguments])
    assert ended.value.code == 2


def test_changed_results_are_refused(there, capsys):
    (there / "results/small/summary.json").write_text(
        json.dumps({"made_from": {"results/small/gone.json": "0"}})
    )
    assert command.main(["--study", "small"]) == 1
    assert "was made from another" in capsys.readouterr().err


def test_a_study_without_a_score_says_to_run_it(there, capsys):
    path = there / "results/small/summary.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    (there / "results/small/summary.json").unlink()
    assert command.main(["--study", "small"]) == 1
    assert "no cell of small has a score yet: run the study" in capsys.readouterr().err


def test_a_dataset_of_which_nothing_can_be_compared_is_named(tmp_path, monkeypatch, capsys):
    study = AnswerStudy(tmp_path / "results/small")
    study.add("good", 0)
    study.add("lost", 0, dataset="e", ended_by="divergence")
    study.write()
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--json"]):
        assert command.main(["--study", "small", *more]) == 1
        said = capsys.readouterr()
        assert "good" in said.out and "e: no cell has every" in said.err


def test_damaged_examples_are_refused_with_the_way_out(there, capsys):
    path = next((there / "results/small").rglob("good/**/examples.csv"))
    path.write_text(path.read_text() + "more,1\n")
    assert command.main(["--study", "small"]) == 1
    assert "is damaged" in (said := capsys.readouterr().err) and "run again" in said


def test_a_study_without_a_summary_says_to_run_it(there, capsys):
    (there / "results/small/summary.csv").unlink()
    assert command.main(["--study", "small"]) == 1
    assert "run the study to its end first" in capsys.readouterr().err


def test_points_of_early_exit_point_to_the_other_command(tmp_path, monkeypatch, capsys):
    study = AnswerStudy(tmp_path / "results/small")
    study.add("exits", 0, exit_rule="threshold", inference="t0.9")
    study.write()
    monkeypatch.chdir(tmp_path)
    assert command.main(["--study", "small"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "longwatt exits choose --study small --model exits" in said


def test_the_console_script_is_installed_and_names_its_commands():
    script = shutil.which("longwatt", path=f"{sys.prefix}/bin")
    assert script is not None, "pip install --no-deps --editable . makes it"
    done = subprocess.run([script, "chose"], capture_output=True, text=True)
    assert done.returncode == 2 and "choose" in done.stderr
