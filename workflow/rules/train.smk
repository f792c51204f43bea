"""Training: one job per cell."""


rule finetune:
    """Fine-tune one cell with early stopping; resumes from its work folder if it was killed."""
    input:
        unpack(cell_inputs),
    output:
        model=directory("results/{study}/{cell}/finetune/model"),
        training="results/{study}/{cell}/finetune/training.json",
        history="results/{study}/{cell}/finetune/history.csv",
        energy_log="results/{study}/{cell}/finetune/energy.jsonl.gz",
    log:
        "logs/{study}/{cell}/finetune.log",
    benchmark:
        "logs/{study}/{cell}/finetune.benchmark.tsv"
    priority: priority_of
    conda:
        "../../envs/longwatt.yaml"
    threads: threads_of
    resources:
        gpu=lambda wildcards: STAGES.gpus(wildcards.cell),
        nodes=1,
    params:
        settings=settings_of("finetune"),
        code=code_of("finetune"),
        work="results/{study}/{cell}/work",
        failure="results/{study}/{cell}/work/failure-finetune.json",
    script:
        "../scripts/finetune.py"
