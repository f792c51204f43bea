"""Make tables, figures and claims from finished cells."""


rule summarize:
    """Make a table of one row per cell and inference point."""
    input:
        lambda w: outputs.summary_inputs(STAGES),
    output:
        summary="results/{study}/summary.csv",
        report="results/{study}/summary.json",
    log:
        "logs/{study}/summarize.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.summarize().settings,
        code=lambda w: RUN.code(STAGES.summarize()),
    script:
        "../scripts/summarize.py"


rule tabulate:
    """Write the summary, the scores by length and the datasets as people read them."""
    input:
        summary="results/{study}/summary.csv",
        report="results/{study}/summary.json",
        facts=lambda w: outputs.dataset_fact_files(STAGES),
    output:
        *tables_in_report(report_items.tables(STAGES.study)),
        report="results/{study}/tables/tables.json",
    log:
        "logs/{study}/tabulate.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.tabulate().settings,
        code=lambda w: RUN.code(STAGES.tabulate()),
    script:
        "../scripts/tabulate.py"


rule plot:
    """Draw accuracy against each cost."""
    input:
        summary="results/{study}/summary.csv",
    output:
        *figures_in_report("figures", report_items.figures(STAGES.study)),
        report="results/{study}/figures/figures.json",
    log:
        "logs/{study}/plot.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.plot().settings,
        code=lambda w: RUN.code(STAGES.plot()),
    script:
        "../scripts/plot.py"


rule plot_power:
    """Draw every cell's power over time, its phases shaded."""
    input:
        lambda w: outputs.energy_files(STAGES),
    output:
        page=report(
            outputs.power_page(STAGES),
            caption="../report/power.rst",
            category="Power over time",
            labels={"page": "all cells"},
        ),
        report=f"{STAGES.results}/power/power.json",
    log:
        f"logs/{STAGES.study_id}/plot_power.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.plot_power().settings,
        code=lambda w: RUN.code(STAGES.plot_power()),
    script:
        "../scripts/plot_power.py"


rule judge_claims:
    """Judge every claim of the study, if it has any."""
    input:
        summary="results/{study}/summary.csv",
        examples=lambda w: outputs.claim_examples(STAGES),
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
        settings=lambda w: STAGES.judge_claims().settings,
        code=lambda w: RUN.code(STAGES.judge_claims()),
    script:
        "../scripts/judge_claims.py"


rule answer:
    """Say which cell to take, on a page that shows what it rests on."""
    input:
        summary="results/{study}/summary.csv",
        beside=lambda w: outputs.answer_inputs(STAGES),
    output:
        page=report(
            "results/{study}/answer.html",
            caption="../report/answer.rst",
            category="★ Answer",  # symbols stand first, and the report sorts
            labels={"page": "which cell to take"},
        ),
        facts="results/{study}/answer.json",
    log:
        "logs/{study}/answer.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings=lambda w: STAGES.answer().settings,
        code=lambda w: RUN.code(STAGES.answer()),
    script:
        "../scripts/answer.py"


rule partial:
    """Report on what is finished and on every cell, whenever asked for."""
    log:
        f"logs/{STAGES.study_id}/partial.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings=lambda w: partial_settings(STAGES),
        stamps=lambda w: IN_FORCE.stamps(),
        code=lambda w: IN_FORCE.code_of_rule("partial"),
    script:
        "../scripts/partial.py"


rule plan:
    """Foretell time, energy, money and disk of the study.

    It runs whenever asked for, before any data or GPU is there.
    """
    log:
        f"logs/{STAGES.study_id}/plan.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings=lambda w: RUN.plan_settings(),
        stamps=lambda w: IN_FORCE.stamps(),
        code=lambda w: IN_FORCE.code_of_rule("plan"),
    script:
        "../scripts/plan.py"


rule compare:
    """Set two studies side by side, cell by cell, whenever asked for."""
    log:
        f"logs/{STAGES.study_id}/compare.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results="results",
        settings=lambda w: RUN.compare_settings(),
        stamps=lambda w: RUN.compared_stamps(),
        code=lambda w: IN_FORCE.code_of_rule("compare"),
    script:
        "../scripts/compare.py"
