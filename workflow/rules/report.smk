"""From finished cells to a table and figures."""


rule summarize:
    """One row per cell and inference point."""
    input:
        summary_inputs,
    output:
        summary="results/{study}/summary.csv",
        report="results/{study}/summary.json",
    log:
        "logs/{study}/summarize.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("summarize"),
        code=code_of("summarize"),
    script:
        "../scripts/summarize.py"


rule tabulate:
    """The summary as people read it."""
    input:
        summary="results/{study}/summary.csv",
    output:
        page=report(
            "results/{study}/tables/summary.html",
            caption="../report/summary.rst",
            category="Summary",
            labels={"table": "all cells"},
        ),
        markdown="results/{study}/tables/summary.md",
        csv="results/{study}/tables/summary.csv",
        report="results/{study}/tables/tables.json",
    log:
        "logs/{study}/tabulate.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("tabulate"),
        code=code_of("tabulate"),
    script:
        "../scripts/tabulate.py"


rule plot:
    """Accuracy against each cost."""
    input:
        summary="results/{study}/summary.csv",
    output:
        time=report(
            "results/{study}/figures/accuracy_vs_training_time.svg",
            caption="../report/accuracy_vs_training_time.rst",
            category="Accuracy against cost",
            labels={"figure": "training time"},
        ),
        energy=report(
            "results/{study}/figures/accuracy_vs_training_energy.svg",
            caption="../report/accuracy_vs_training_energy.rst",
            category="Accuracy against cost",
            labels={"figure": "training energy"},
        ),
        speed=report(
            "results/{study}/figures/accuracy_vs_inference_speed.svg",
            caption="../report/accuracy_vs_inference_speed.rst",
            category="Accuracy against cost",
            labels={"figure": "inference speed"},
        ),
        time_png="results/{study}/figures/accuracy_vs_training_time.png",
        energy_png="results/{study}/figures/accuracy_vs_training_energy.png",
        speed_png="results/{study}/figures/accuracy_vs_inference_speed.png",
        report="results/{study}/figures/figures.json",
    log:
        "logs/{study}/plot.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("plot"),
        code=code_of("plot"),
    script:
        "../scripts/plot.py"


rule partial:
    """Summary and figures of what is finished, and the state of every cell; runs whenever asked for."""
    log:
        f"logs/{STAGES.study_id}/partial.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings={"rows": STAGES.rows(), "titles": STAGES.titles()},
        stamps=lambda wildcards: stamps_in_force(),
        code=provenance.code_digest(SCRIPTS / "partial.py"),
    script:
        "../scripts/partial.py"
