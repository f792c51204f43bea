"""Inference and scoring of trained cells; inference is an axis of its own."""


rule predict:
    """Predictions of one inference point, and how fast they came."""
    input:
        unpack(predict_inputs),
    output:
        predictions="results/{study}/{cell}/predict/{inference}/predictions.jsonl",
        inference="results/{study}/{cell}/predict/{inference}/inference.json",
        energy_log="results/{study}/{cell}/predict/{inference}/energy.jsonl.gz",
    log:
        "logs/{study}/{cell}/predict-{inference}.log",
    benchmark:
        "logs/{study}/{cell}/predict-{inference}.benchmark.tsv"
    priority: priority_of
    conda:
        "../../envs/longwatt.yaml"
    threads: threads_of
    resources:
        gpu=gpus_of,
        nodes=1,
    params:
        settings=settings_of("predict"),
        code=code_of("predict"),
        work="results/{study}/{cell}/work/predict-{inference}",
        failure="results/{study}/{cell}/work/failure-predict-{inference}.json",
    script:
        "../scripts/predict.py"


rule score:
    """Corpus scores with an interval, and every example's scores."""
    input:
        unpack(score_inputs),
        predictions="results/{study}/{cell}/predict/{inference}/predictions.jsonl",
        inference="results/{study}/{cell}/predict/{inference}/inference.json",
    output:
        scores="results/{study}/{cell}/predict/{inference}/scores.json",
        examples="results/{study}/{cell}/predict/{inference}/examples.csv",
    log:
        "logs/{study}/{cell}/score-{inference}.log",
    priority: reduction_priority()
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("score"),
        code=code_of("score"),
        failure="results/{study}/{cell}/work/failure-score-{inference}.json",
    script:
        "../scripts/score.py"


rule summarize_energy:
    """Energy, power and utilisation of one metered part of a cell."""
    input:
        energy_log="results/{study}/{cell}/{part}/energy.jsonl.gz",
    output:
        energy="results/{study}/{cell}/{part}/energy.json",
        power="results/{study}/{cell}/{part}/power.csv",
    log:
        "logs/{study}/{cell}/{part}/energy.log",
    priority: reduction_priority()
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("summarize_energy"),
        code=code_of("summarize_energy"),
        failure=failure_of_energy,
    script:
        "../scripts/summarize_energy.py"
