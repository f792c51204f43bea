"""Energy in the report of a workflow that has nothing of ours but one line."""

import csv
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from longwatt.energy.workflows.runs import read_runs
from tests import processors
from tests.conftest import ROOT, wait_for
from tests.nvml import FakeGpu, uuid

SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2"]
THREADS = 64  # of the processor in place of this machine's, rated at 205 W
WATTS = 205 / THREADS
GUIDE = ROOT / "docs/how-to/meter_workflow.md"
LINE = "\nfrom longwatt.energy import meter; meter(workflow"
BURN = "import time; any(iter(lambda: time.process_time() > {}, True))"
TOY = """
BURN = "{burn}"


rule all:
    input:
        expand("burnt_{{n}}.txt", n=[1, 2]),
        "script.txt",
        "run.txt",
        "flaky.txt",


rule burn:
    output:
        "burnt_{{n}}.txt",
    shell:
        "python -c '{{BURN}}'; touch {{output}}"


rule script:
    output:
        "script.txt",
    benchmark:
        "script.tsv"
    script:
        "burn.py"


rule in_process:
    output:
        "run.txt",
    run:
        import time

        end = time.process_time() + {cpu_s}
        while time.process_time() < end:
            pass
        shell("python -c '{{BURN}}'; touch {{output}}")


rule flaky:
    output:
        "flaky.txt",
    retries: 1
    shell:
        "python -c '{{BURN}}'; [ -e once ] && touch {{output}} || {{{{ touch once; exit 3; }}}}"

"""
SCRIPT = """
import time
from pathlib import Path

end = time.process_time() + {}
while time.process_time() < end:
    pass
Path(snakemake.output[0]).touch()
"""
CPU_S = 0.8
# Of a start of Python, and in a script of Snakemake's own package too.
STARTS = {"burn": 0.5, "script": 2.5, "in_process": 1.5, "flaky": 0.5}


class Foreign:
    """A folder with a Snakefile, on a machine with a known processor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "cpuinfo").write_text(
            processors.x86("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", THREADS, 32, cpus=128)
        )
        kept = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        python = str(Path(sys.executable).parent)
        self.environment = {
            **kept, "LONGWATT_CPUINFO": str(path / "cpuinfo"), "OMP_NUM_THREADS": "1",
            "PATH": f"{python}:{os.environ['PATH']}", "LONGWATT_POWERCAP": str(path),
            "LONGWATT_LEASE_DIR": str(path / "leases"),
        }  # fmt: skip

    def snakemake(self, *options: str, ok: bool = True) -> str:
        done = subprocess.run(
            [*SNAKEMAKE, *options], cwd=self.path, env=self.environment,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert (done.returncode == 0) == ok, done.stderr
        return done.stdout + done.stderr

    def start(self, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*SNAKEMAKE, *options], cwd=self.path, env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.long
def test_energy_of_a_foreign_workflow_is_in_its_report(tmp_path):
    foreign = Foreign(tmp_path)
    toy = TOY.format(burn=BURN.format(CPU_S), cpu_s=CPU_S)
    (tmp_path / "Snakefile").write_text(f"{toy}{LINE}, grams_per_kwh=400)\n")
    (tmp_path / "burn.py").write_text(SCRIPT.format(CPU_S))
    foreign.snakemake()
    found = {row["rule"]: row for row in rows(tmp_path / "energy/rules.csv")}
    assert set(found) == set(STARTS)
    for rule, starts_s in STARTS.items():
        row = found[rule]
        burns = 1 if rule == "script" else 2
        cpu_s = float(row["cpu_s"])
        assert burns * CPU_S * 0.98 <= cpu_s <= burns * (CPU_S + starts_s), rule
        assert float(row["energy_j"]) == pytest.approx(cpu_s * WATTS), "CPU seconds x watts"
        assert float(row["gco2e"]) == pytest.approx(cpu_s * WATTS / 3.6e6 * 400)
        assert row["sources"] == "estimate"
    assert (found["burn"]["jobs"], found["flaky"]["runs"]) == ("2", "2")
    assert float(found["flaky"]["failed_energy_j"]) >= CPU_S * WATTS * 0.98

    foreign.snakemake("--report", "report.zip")
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        names = {Path(name).name: name for name in archive.namelist()}
        page = archive.read(names["energy.html"]).decode()
        report = archive.read(names["report.html"]).decode()
    assert '"Energy"' in report and {"energy.svg", "jobs.csv", "rules.csv"} <= set(names)
    assert "in 6 runs of 5 jobs" in page and "6 estimated" in page and "400 g per kWh" in page
    assert re.search(r"went to 1 run that failed", page)
    assert "Nothing to be done" in foreign.snakemake("-n"), "the page asks for no job again"


@pytest.mark.long
def test_a_job_goes_on_being_metered_when_snakemake_is_killed(tmp_path):
    foreign = Foreign(tmp_path)
    rule = 'rule slow:\n    output: "slow.txt"\n    shell: "python -c \'{}\'; touch {{output}}"\n'
    (tmp_path / "Snakefile").write_text(rule.format(BURN.format(4)) + f"{LINE})\n")
    snakemake = foreign.start()
    jobs = tmp_path / "energy/jobs/slow"
    wait_for(lambda: list(jobs.glob("*.run1.jsonl")), "a recorder")
    snakemake.send_signal(signal.SIGKILL)
    snakemake.wait()
    (log,) = jobs.glob("*.run1.jsonl")
    wait_for(lambda: '"end":"died"' in log.read_text(), "the job's own end", seconds=120)
    (run,) = read_runs(tmp_path / "energy")
    assert run.state == "killed" and run.source == "estimate" and run.flags == ("partial",)
    assert 3 <= run.cpu_s <= 5, "all that it took, though Snakemake did not see it end"
    foreign.snakemake("--unlock")
    foreign.snakemake("--rerun-incomplete")
    assert [one.state for one in read_runs(tmp_path / "energy")] == ["killed", "kept"]
    (row,) = rows(tmp_path / "energy/rules.csv")
    assert float(row["killed_energy_j"]) == pytest.approx(run.energy_j)


@pytest.mark.long
def test_the_snakefile_of_the_guide_runs(tmp_path):
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), flags=re.M | re.S)
    assert "meter(workflow)" in block
    (tmp_path / "Snakefile").write_text(block)
    foreign = Foreign(tmp_path)
    foreign.snakemake()
    (row,) = rows(tmp_path / "energy/jobs.csv")
    assert (row["rule"], row["state"], row["source"]) == ("count", "kept", "estimate")
    (tmp_path / "plain.smk").write_text(block.split("\nfrom longwatt")[0])
    (include,) = re.findall(r"^    include: \"Snakefile\"\n    (.*)$", GUIDE.read_text(), re.M)
    (tmp_path / "metered.smk").write_text(f'include: "plain.smk"\n{include}\n')
    said = foreign.snakemake("-s", "metered.smk", "-n", "--forceall")
    assert "longwatt_energy" in said


MAKE = 'rule make:\n    output: "{n}.txt"\n    shell: "touch {output}"\n'
UNPACKED = """
def wanted(wildcards):
    return {"first": "a.txt", "second": "b.txt"}


rule all:
    input: unpack(wanted), lambda wildcards: "c.txt", ancient("d.txt"), named="e.txt"


"""
MODULE = """
module other:
    snakefile: "other.smk"
    prefix: "pre"


use rule * from other as other_*


rule all:
    default_target: True
    input: rules.other_all.input


"""


@pytest.mark.long
def test_a_metered_snakefile_is_of_use_as_a_module(tmp_path):
    foreign = Foreign(tmp_path)
    rules = f'rule all:\n    input: "a.txt"\n\n\n{MAKE}'
    (tmp_path / "other.smk").write_text(f"{rules}{LINE})\n")
    (tmp_path / "Snakefile").write_text(f"{MODULE}")
    foreign.snakemake()
    assert not (tmp_path / "energy").exists()
    (tmp_path / "Snakefile").write_text(f"{MODULE}{LINE})\n")
    foreign.snakemake("--forceall")
    (row,) = rows(tmp_path / "energy/rules.csv")
    assert row["rule"] == "other_make"


COMMANDS = {
    "with inputs": 'rule all:\n    input: "a.txt", "b.txt"\n    shell: "echo {input} > said"\n\n\n',
    "alone": 'rule all:\n    shell: "echo a.txt b.txt > said"\n\n\n',
}


@pytest.mark.long
def test_whatever_a_default_target_asks_for_is_made_before_the_page(tmp_path):
    foreign = Foreign(tmp_path)
    (tmp_path / "Snakefile").write_text(f"{UNPACKED}{MAKE}{LINE}, folder='results/energy')\n")
    foreign.snakemake()
    (row,) = rows(tmp_path / "results/energy/rules.csv")
    assert (row["rule"], row["jobs"]) == ("make", "5")


@pytest.mark.long
@pytest.mark.parametrize("target", COMMANDS)
def test_the_command_of_a_default_target_stays_as_it_is(tmp_path, target):
    foreign = Foreign(tmp_path)
    (tmp_path / "Snakefile").write_text(f"{COMMANDS[target]}{MAKE}{LINE})\n")
    said = foreign.snakemake()
    assert (tmp_path / "said").read_text() == "a.txt b.txt\n"
    assert said.count("make the page of energy by: snakemake longwatt_energy") == 1
    assert "all" in {run.rule for run in read_runs(tmp_path / "energy")}
    foreign.snakemake("longwatt_energy")
    assert "all" in {row["rule"] for row in rows(tmp_path / "energy/rules.csv")}


@pytest.mark.long
def test_a_job_on_a_gpu_is_measured_and_one_beside_it_estimated(tmp_path, machine):
    machine.has([FakeGpu(high=300), FakeGpu(uuid=uuid(1), high=100)])
    foreign = Foreign(tmp_path)
    foreign.environment = {**foreign.environment, **machine.environment()}
    foreign.environment["CUDA_VISIBLE_DEVICES"] = uuid(1)
    gpu = 'rule gpu:\n    output: "gpu.txt"\n    resources: gpu=1\n    shell: "{}"\n\n\n'
    both = 'rule all:\n    input: "gpu.txt", "cpu.txt"\n\n\n'
    cpu = 'rule cpu:\n    output: "cpu.txt"\n    shell: "touch {output}"\n'
    (tmp_path / "Snakefile").write_text(
        both + gpu.format("sleep 6; touch {output}") + cpu + f"{LINE})\n"
    )
    foreign.snakemake("--resources", "gpu=1")
    found = {run.rule: run for run in read_runs(tmp_path / "energy")}
    assert (found["cpu"].source, found["cpu"].devices) == ("estimate", ["processors"])
    assert (found["gpu"].source, found["gpu"].devices) == ("nvml_counter", [uuid(1)])
    # Its recorder takes a moment to begin; the run says so where it is more than a hundredth.
    assert 0.6 * 100 * 6 <= found["gpu"].energy_j <= 100 * found["gpu"].seconds * 1.02
