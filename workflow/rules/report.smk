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
    """The summary, the scores by length and the datasets as people read them."""
    input:
        summary="results/{study}/summary.csv",
        report="results/{study}/summary.json",
        facts=dataset_facts,
    output:
        *table_outputs(),
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
        *figure_outputs(),
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


rule plot_power:
    """Every cell's power over time, its phases shaded."""
    input:
        lambda wildcards: STAGES.energies(),
    output:
        page=power_output(),
        report=STAGES.power_report,
    log:
        f"logs/{STAGES.study_id}/plot_power.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("plot_power"),
        code=code_of("plot_power"),
    script:
        "../scripts/plot_power.py"


rule judge_claims:
    """Every claim of the study with its verdict; a study without claims has no such job."""
    input:
        summary="results/{study}/summary.csv",
        examples=lambda wildcards: STAGES.claim_examples,
    output:
        page=report(
            "results/{study}/claims.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={"claims": "verdicts"},
        ),
        text="results/{study}/claims.md",
        verdicts="results/{study}/claims.json",
    log:
        "logs/{study}/judge_claims.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings=settings_of("judge_claims"),
        code=code_of("judge_claims"),
    script:
        "../scripts/judge_claims.py"


rule partial:
    """Summary and figures of what is finished, and the state of every cell; runs whenever asked for."""
    log:
        f"logs/{STAGES.study_id}/partial.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings=lambda wildcards: STAGES.partial_settings(),
        stamps=lambda wildcards: IN_FORCE.stamps(),
        code=lambda wildcards: IN_FORCE.code_of_rule("partial"),
    script:
        "../scripts/partial.py"


rule plan:
    """What the study will take: time, energy, money, disk; runs whenever asked for, before any data or GPU is there."""
    log:
        f"logs/{STAGES.study_id}/plan.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings=lambda wildcards: plan_settings(),
        stamps=lambda wildcards: IN_FORCE.stamps(),
        code=lambda wildcards: IN_FORCE.code_of_rule("plan"),
    script:
        "../scripts/plan.py"


rule compare:
    """Two studies' summaries side by side, cell by cell; runs whenever asked for."""
    log:
        f"logs/{STAGES.study_id}/compare.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results="results",
        settings=lambda wildcards: STAGES.compare_settings(),
        stamps=lambda wildcards: compared_stamps(),
        code=lambda wildcards: IN_FORCE.code_of_rule("compare"),
    script:
        "../scripts/compare.py"
