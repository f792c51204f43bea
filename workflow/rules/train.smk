"""Training: one job per cell, after the batch size is known."""


rule probe_batch_size:
    """Find the largest batch per device that fits, for all cells of one shape."""
    input:
        unpack(lambda w: STAGES.probe_inputs(w.probe)),
    output:
        batch_size="resources/batch_sizes/{probe}/batch_size.json",
        probe="resources/batch_sizes/{probe}/probe.json",
        energy_log="resources/batch_sizes/{probe}/energy.jsonl.gz",
    log:
        "logs/batch_sizes/{probe}.log",
    benchmark:
        "logs/batch_sizes/{probe}.benchmark.tsv"
    priority: urgency.DATA
    conda:
        "../../envs/longwatt.yaml"
    threads: lambda w: RUN.threads_of_probe(w.probe)
    resources:
        gpu=lambda w: RUN.gpus_of_probe(w.probe),
        on_cpu=lambda w: RUN.on_cpu(RUN.gpus_of_probe(w.probe)),
        nodes=1,
    params:
        settings=lambda w: STAGES.probe_batch_size(w.probe).settings,
        code=lambda w: RUN.code(STAGES.probe_batch_size(w.probe)),
        work="resources/batch_sizes/{probe}/work",
    script:
        "../scripts/probe_batch_size.py"


rule finetune:
    """Fine-tune one cell with early stopping, resuming from its work folder after a kill."""
    input:
        unpack(lambda w: STAGES.finetune_inputs(w.cell)),
    output:
        model=directory("results/{study}/{cell}/finetune/model"),
        training="results/{study}/{cell}/finetune/training.json",
        history="results/{study}/{cell}/finetune/history.csv",
        energy_log="results/{study}/{cell}/finetune/energy.jsonl.gz",
    log:
        "logs/{study}/{cell}/finetune.log",
    benchmark:
        "logs/{study}/{cell}/finetune.benchmark.tsv"
    priority: lambda w: RUN.priority(w.cell)
    conda:
        "../../envs/longwatt.yaml"
    threads: lambda w: RUN.threads(w.cell)
    resources:
        gpu=lambda w: STAGES.gpus(w.cell),
        on_cpu=lambda w: RUN.on_cpu(STAGES.gpus(w.cell)),
        nodes=1,
    params:
        settings=lambda w: STAGES.finetune(w.cell).settings,
        # Snakemake compares no parameter that is made from the number of threads.
        execution=lambda w, threads: dict(STAGES.execution(w.cell)),
        code=lambda w: RUN.code(STAGES.finetune(w.cell)),
        work="results/{study}/{cell}/work",
        failure="results/{study}/{cell}/work/failure-finetune.json",
    script:
        "../scripts/finetune.py"
