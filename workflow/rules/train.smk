"""Training: one job per cell, after the batch size is known."""


rule probe_batch_size:
    """The largest batch per device that fits a budget's memory; shared by all cells of one shape."""
    input:
        unpack(probe_inputs),
    output:
        batch_size="resources/batch_sizes/{probe}/batch_size.json",
        probe="resources/batch_sizes/{probe}/probe.json",
        energy_log="resources/batch_sizes/{probe}/energy.jsonl.gz",
    log:
        "logs/batch_sizes/{probe}.log",
    benchmark:
        "logs/batch_sizes/{probe}.benchmark.tsv"
    priority: priorities.DATA
    conda:
        "../../envs/longwatt.yaml"
    threads: threads_of_probe
    resources:
        gpu=gpus_of_probe,
        nodes=1,
    params:
        settings=settings_of("probe_batch_size"),
        code=code_of("probe_batch_size"),
        work="resources/batch_sizes/{probe}/work",
    script:
        "../scripts/probe_batch_size.py"


rule finetune:
    """Fine-tune one cell with early stopping; resumes from its work folder if it was killed."""
    input:
        unpack(finetune_inputs),
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
        gpu=gpus_of,
        nodes=1,
    params:
        settings=settings_of("finetune"),
        execution=execution_of_finetune,
        code=code_of("finetune"),
        work="results/{study}/{cell}/work",
        failure="results/{study}/{cell}/work/failure-finetune.json",
    script:
        "../scripts/finetune.py"
