"""Watts of a busy core, for each kind of machine, and what an estimate says it rests on."""

import json
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from longwatt.energy import rated
from longwatt.energy.__main__ import main
from longwatt.energy.artefacts import write_energy
from longwatt.energy.meters.processor import processor_facts
from longwatt.energy.rated import (
    ASSUMED_W,
    AUTO_WATTS,
    model_name,
    rate,
    rated_watts,
    watts_setting,
)
from longwatt.energy.recorder import Order, Recorder
from longwatt.energy.reduction.reduce import summarize_log
from longwatt.layout.wording import ESTIMATED
from longwatt.report.power_page import sentence
from tests import processors
from tests.energy_logs import end, header, mark, ns, samples, write

TABLE = f"codecarbon {version('codecarbon')}"


@pytest.fixture
def rating(tmp_path, monkeypatch):
    def of(text, **more):
        processors.set_processor(tmp_path, monkeypatch, text, **more)
        return rate(AUTO_WATTS, processor_facts())

    return of


@pytest.mark.parametrize(
    ("text", "watts", "threads"),
    [
        (processors.LAPTOP, 28, 8),
        (processors.HYBRID, 125, 32),
        (processors.TWO_SOCKETS, 205, 64),
        (processors.EPYC, 280, 128),
        (processors.EPYC_WITHOUT_SMT, 280, 64),
        (processors.RYZEN, 15, 16),
    ],
    ids=["laptop", "hybrid", "two sockets", "EPYC", "no SMT", "Ryzen"],
)
def test_a_machine_of_its_own_has_its_processor_s_rated_watts_by_thread(
    rating, text, watts, threads
):
    found = rating(text)
    assert found.watts == watts / threads
    assert f"rated: {processor_facts()['name']}, {watts} W / {threads} hardware" in found.basis
    assert found.basis.endswith(f"{TABLE} (2026)")


def test_a_guest_whose_processor_tells_its_cores_by_name_has_the_whole_processor_s_share(rating):
    found = rating(processors.GUEST_OF_EPYC)
    assert found.watts == 280 / 128 and "128 hardware threads by its name" in found.basis


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (processors.MASKED_EPYC, "has no 'AMD EPYC'"),
        (processors.MASKED_XEON, "has no 'Intel Xeon Processor (Skylake, IBRS)'"),
        (processors.MASKED_CLOUD, "has no 'Intel(R) Xeon(R) CPU @ 2.20GHz'"),
        (processors.GUEST_OF_NEW_EPYC, "has no 'AMD EPYC 9V74 80-Core Processor'"),
        (processors.GUEST_OF_XEON, "has 210 W for 'Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz"),
    ],
    ids=["EPYC", "Xeon", "cloud", "newer than the table", "of unknown share"],
)
def test_a_guest_of_a_server_that_hides_itself_has_an_assumed_figure_with_its_spread(
    rating, text, why
):
    found = rating(text)
    assert found.watts == ASSUMED_W and found.basis.startswith("assumed for a virtual CPU: 3.76 W")
    assert "from 1.7 to 8.6 W" in found.basis and why in found.basis


@pytest.mark.parametrize(
    ("text", "machine", "why"),
    [
        (processors.UNKNOWN, "", "has no 'Hygon C86 7999 16-core Processor'"),
        (processors.GRAVITON, "aarch64", "has no 'aarch64'"),
        (processors.AMPERE, "aarch64", "has no 'aarch64'"),
        (processors.APPLE, "aarch64", "has no 'aarch64'"),
        (processors.RASPBERRY, "aarch64", "has no 'aarch64 of Raspberry Pi 4 Model B Rev 1.4'"),
        (processors.GUEST_OF_LAPTOP, "", "has 15 W for 'Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz'"),
        ("", "riscv64", "has no 'riscv64'"),
    ],
    ids=["unknown", "Graviton", "Ampere", "Apple", "Raspberry Pi", "guest of a laptop", "silent"],
)
def test_an_unknown_processor_has_no_watts_and_says_what_to_set(rating, text, machine, why):
    found = rating(text, machine=machine)
    assert found.watts is None and why in found.basis
    assert "set watts_per_core in config.yaml to its rated watts divided by" in found.basis


def test_windows_shows_its_linux_the_threads_of_the_whole_processor(rating):
    guest = processors.LAPTOP.replace("avx2", "avx2 hypervisor")
    found = rating(guest, release=processors.WSL_RELEASE)
    assert found.watts == 28 / 8 and "8 hardware threads as Windows shows them" in found.basis
    assert rating(guest).watts is None, "another guest sees a share that nobody tells"


def test_names_that_kernels_and_the_table_write_otherwise_are_one():
    for said, name in {
        "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz": "intel xeon e5-2680 v4",
        "AMD Ryzen Threadripper PRO 3975WX 32-Cores": "amd ryzen threadripper pro 3975wx",
        "AMD Ryzen AI 9 HX 370 w/ Radeon 890M": "amd ryzen ai 9 hx 370",
        "AMD Ryzen 9 6900HS\u200b": "amd ryzen 9 6900hs",
        "INTEL(R) XEON(R) PLATINUM 8592+": "intel xeon platinum 8592+",
    }.items():
        assert model_name(said) == name and name in rated_watts()[0]
    # A newer model never takes the watts of an older one with nearly its name.
    assert model_name("AMD EPYC 7763X 64-Core Processor") not in rated_watts()[0]


def test_the_table_is_of_the_pinned_release_whose_year_is_known(root):
    pinned = (root / "envs/requirements-processors.txt").read_text().splitlines()[-1]
    name, _, number = pinned.partition("==")
    assert name == rated.TABLE_PACKAGE and number == list(rated.TABLE_YEARS)[-1]
    table, said = rated_watts()
    assert len(table) > 4000 and min(table.values()) > 0 and said == f"{TABLE} (2026)"
    assert rated.TABLE_PACKAGE not in sys.modules, "only its table is read"


def test_models_of_which_the_table_says_two_things_or_nonsense_are_left_out(tmp_path, monkeypatch):
    class Distribution:
        version = "99"

        def locate_file(self, name):
            return tmp_path / "table.csv"

    rows = "Name,TDP\nAcme 1,10\nAcme 1,10.0\nAcme 2,10\nAcme(R) 2,12\nAcme 3,27.29.5\nAcme 4,0\n"
    (tmp_path / "table.csv").write_text(rows)
    monkeypatch.setattr(rated, "distribution", lambda name: Distribution())
    assert rated_watts.__wrapped__() == ({"acme 1": 10.0}, "codecarbon 99")


def test_without_the_table_there_are_no_watts_but_its_command(monkeypatch):
    def nothing():
        raise PackageNotFoundError("codecarbon")

    monkeypatch.setattr(rated, "rated_watts", nothing)
    found = rate(AUTO_WATTS, {"name": "Any"})
    assert found.watts is None and "the table of processors is not here" in found.basis
    assert found.basis.endswith(f" -m pip install --no-deps codecarbon=={version('codecarbon')}")


@pytest.mark.parametrize(
    ("machine", "setting"),
    [
        ({}, AUTO_WATTS),
        ({"watts_per_core": "auto"}, AUTO_WATTS),
        ({"watts_per_core": 12}, 12),
        ({"watts_per_core": None}, None),
        ({"watts_per_core": "none"}, None),
    ],
)
def test_the_setting_is_auto_unless_it_is_given(machine, setting):
    assert watts_setting(machine) == setting


# Logs.

FACTS = {"board": None, "virtual": False, "wsl": False}
OF_EPYC = {"name": "AMD EPYC 7763", "cpus_per_socket": 128, "cores_per_socket": 64, **FACTS}
OF_LAPTOP = {
    "name": "Intel(R) Core(TM) i7-1165G7", "cpus_per_socket": 8, "cores_per_socket": 4, **FACTS,
}  # fmt: skip
OF_NOBODY = {"name": "Zilog Z80", "cpus_per_socket": 1, "cores_per_socket": 1, **FACTS}


def busy(start=0, until=20, **more):
    """Two CPUs that are busy from a second on."""
    return [{"t": ns(t), "cpu_s": 2.0 * (t - start), **more} for t in range(start, until + 1)]


def log_of(path, processor, **more):
    told = {} if processor is None else {"processor": processor}
    return write(path, header(gpus=0, **told, **more), busy(), mark(5, "train"), end(20))


def test_an_energy_without_a_meter_is_estimated_by_the_job_s_own_processor(tmp_path):
    found = summarize_log([log_of(tmp_path / "a.jsonl", OF_EPYC)], AUTO_WATTS)
    assert found["energy_j"] == pytest.approx(30 * 280 / 128)
    assert (found["energy_source"], found["measured"]) == ("estimate", False)
    assert found["watts_per_core"] == 280 / 128 and "AMD EPYC 7763" in found["watts_basis"]
    assert found["problems"] == [] and f", {ESTIMATED}" in sentence(found)


def test_two_machines_in_one_study_each_have_their_own_watts(tmp_path):
    logs = [log_of(tmp_path / f"{n}.jsonl", of) for n, of in enumerate((OF_EPYC, OF_LAPTOP))]
    joules = [summarize_log([log], AUTO_WATTS)["energy_j"] for log in logs]
    assert joules == [pytest.approx(30 * 280 / 128), pytest.approx(30 * 28 / 8)]


def test_a_job_that_went_on_elsewhere_counts_each_run_by_its_machine(tmp_path):
    first = [header(gpus=0, processor=OF_EPYC), busy(until=10), mark(0, "train"), end(10)]
    second = header(30, gpus=0, boot="boot-b", processor=OF_LAPTOP)
    rest = [busy(30, 40), mark(30, "train", boot="boot-b"), end(40)]
    path = write(tmp_path / "a.jsonl", *first, second, *rest)
    found = summarize_log([path], AUTO_WATTS)
    assert found["energy_j"] == pytest.approx(20 * 280 / 128 + 20 * 28 / 8)
    assert found["watts_per_core"] is None and found["watts_basis"].count("rated: ") == 2


@pytest.mark.parametrize(
    ("processor", "why"),
    [(None, "names no processor"), (OF_NOBODY, "has no 'Zilog Z80'")],
    ids=["old log", "unknown processor"],
)
def test_without_watts_energy_is_unknown_and_the_log_s_problems_say_what_to_set(
    tmp_path, processor, why
):
    log = log_of(tmp_path / "a.jsonl", processor)
    found = summarize_log([log], AUTO_WATTS)
    assert (found["energy_j"], found["energy_source"]) == (None, "none")
    assert (found["watts_per_core"], found["watts_basis"]) == (None, None)
    (said,) = found["problems"]
    assert said.startswith("no estimate: ") and why in said and "set watts_per_core" in said
    assert sentence(found) == f"energy not known ({said})", "as the page of power says"
    declared = summarize_log([log], 10.0)
    assert (declared["energy_j"], declared["watts_basis"]) == (300.0, "declared: watts_per_core")


def test_a_declared_number_wins_over_the_table_and_none_makes_no_estimate(tmp_path):
    log = log_of(tmp_path / "a.jsonl", OF_EPYC)
    assert summarize_log([log], 10.0)["energy_j"] == 300.0
    nothing = summarize_log([log], None)
    assert (nothing["energy_j"], nothing["energy_source"]) == (None, "none")
    assert nothing["problems"] == [], "nothing was asked for"


def test_counters_win_over_the_table(tmp_path):
    zones = {"zones": ["package-0"], "ranges_uj": [10**12], "reason": None}
    readings = [line | {"rapl_uj": [7_000_000 * n]} for n, line in enumerate(busy())]
    lines = [header(gpus=0, rapl=zones, processor=OF_EPYC), readings, mark(5, "train"), end(20)]
    found = summarize_log([write(tmp_path / "a.jsonl", *lines)], AUTO_WATTS)
    assert (found["energy_source"], found["energy_j"]) == ("rapl", pytest.approx(105))
    assert (found["watts_per_core"], found["watts_basis"]) == (None, None)


def test_nothing_is_estimated_of_a_job_on_gpus(tmp_path):
    unread = [line | {"cpu_s": 1.0} for line in samples(0, 20, 0, counter=False, power=False)]
    lines = [header(processor=OF_EPYC), unread, mark(0, "train"), end(20)]
    found = summarize_log([write(tmp_path / "a.jsonl", *lines)], AUTO_WATTS)
    assert (found["energy_source"], found["energy_j"]) == ("none", None)
    assert not any("no estimate" in problem for problem in found["problems"])


def test_a_recorder_writes_its_processor_and_energy_json_says_what_it_rests_on(
    tmp_path, monkeypatch
):
    processors.set_processor(tmp_path, monkeypatch, processors.RYZEN)
    monkeypatch.setenv("LONGWATT_POWERCAP", str(tmp_path / "nothing"))
    Recorder(Order(out=str(tmp_path / "log.jsonl"))).log.close()
    told = json.loads((tmp_path / "log.jsonl").read_text())["processor"]
    assert (told["name"], told["cpus_per_socket"], told["virtual"]) == (
        "AMD Ryzen 7 5800U with Radeon Graphics", 16, False,
    )  # fmt: skip
    log = log_of(tmp_path / "energy.jsonl", told)
    energy = tmp_path / "energy.json"
    write_energy(log, {"watts_per_core": AUTO_WATTS}, energy, tmp_path / "power.csv", {})
    facts = json.loads(energy.read_text())
    assert facts["watts_per_core"] == 15 / 16 and facts["measured"] is False
    assert facts["watts_basis"].startswith("rated: AMD Ryzen 7 5800U with Radeon Graphics, 15 W / ")


# The command.


@pytest.fixture
def no_meter(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGWATT_POWERCAP", str(tmp_path / "nothing"))
    monkeypatch.setattr("longwatt.gpus.listing.present", list)


def test_the_command_says_what_energy_rests_on_here(tmp_path, monkeypatch, capsys, no_meter):
    processors.set_processor(tmp_path, monkeypatch, processors.LAPTOP)
    assert main(["meters"]) == 0
    said = capsys.readouterr().out
    assert "GPUs: NVML shows none" in said and "RAPL counters: none can be read" in said
    assert "without a meter: 3.5 W per busy core, estimated (rated: 11th Gen Intel" in said
    processors.set_processor(tmp_path, monkeypatch, processors.UNKNOWN)
    assert main(["meters"]) == 0
    assert "without a meter: NA (codecarbon" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "energy_j"), [([], 65.625), (["auto"], 65.625), (["10"], 300.0), (["none"], None)]
)
def test_a_summary_on_the_command_line_estimates_by_default(tmp_path, capsys, given, energy_j):
    log = log_of(tmp_path / "a.jsonl", OF_EPYC)
    chosen = ["--watts-per-core", *given] if given else []
    assert main(["summarize", str(log), *chosen, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["energy_j"] == energy_j
    assert main(["summarize", str(log), *chosen]) == 0
    assert ("estimated: " in capsys.readouterr().out) == (energy_j is not None)


@pytest.mark.parametrize("given", ["many", "0", "-1", "nan"])
def test_other_words_are_refused(tmp_path, capsys, given):
    with pytest.raises(SystemExit):
        main(["summarize", "a.jsonl", f"--watts-per-core={given}"])
    assert "--watts-per-core" in capsys.readouterr().err
