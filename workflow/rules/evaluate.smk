"""Predict with trained cells and score them, with inference as an axis of its own."""


rule predict:
    """Predict at one inference point, and measure how fast."""
    input:
        unpack(lambda w: STAGES.predict_inputs(w.cell, w.inference)),
    output:
        predictions="results/{study}/{cell}/predict/{inference}/predictions.jsonl",
        inference="results/{study}/{cell}/predict/{inference}/inference.json",
        energy_log="results/{study}/{cell}/predict/{inference}/energy.jsonl.gz",
    log:
        "logs/{study}/{cell}/predict-{inference}.log",
    benchmark:
        "logs/{study}/{cell}/predict-{inference}.benchmark.tsv"
    priority: lambda w: RUN.priority(w.cell, w.inference)
    conda:
        "../../envs/longwatt.yaml"
    threads: lambda w: RUN.threads(w.cell)
    resources:
        gpu=lambda w: STAGES.gpus(w.cell),
        on_cpu=lambda w: RUN.on_cpu(STAGES.gpus(w.cell)),
        nodes=1,
    params:
        settings=lambda w: STAGES.predict(w.cell, w.inference).settings,
        code=lambda w: RUN.code(STAGES.predict(w.cell, w.inference)),
        work="results/{study}/{cell}/work/predict-{inference}",
        failure="results/{study}/{cell}/work/failure-predict-{inference}.json",
    script:
        "../scripts/predict.py"


rule score:
    """Score a corpus, with an interval, and every example."""
    input:
        unpack(lambda w: STAGES.score_inputs(w.cell)),
        predictions="results/{study}/{cell}/predict/{inference}/predictions.jsonl",
        inference="results/{study}/{cell}/predict/{inference}/inference.json",
    output:
        scores="results/{study}/{cell}/predict/{inference}/scores.json",
        examples="results/{study}/{cell}/predict/{inference}/examples.csv",
    log:
        "logs/{study}/{cell}/score-{inference}.log",
    priority: RUN.reduction_priority
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.score(w.cell, w.inference).settings,
        code=lambda w: RUN.code(STAGES.score(w.cell, w.inference)),
        failure="results/{study}/{cell}/work/failure-score-{inference}.json",
    script:
        "../scripts/score.py"


rule summarize_energy:
    """Reduce the energy log of one metered part of a cell."""
    input:
        energy_log="results/{study}/{cell}/{part}/energy.jsonl.gz",
    output:
        energy="results/{study}/{cell}/{part}/energy.json",
        power="results/{study}/{cell}/{part}/power.csv",
    log:
        "logs/{study}/{cell}/{part}/energy.log",
    priority: RUN.reduction_priority
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.summarize_energy(w.cell, w.part).settings,
        code=lambda w: RUN.code(STAGES.summarize_energy(w.cell, w.part)),
        failure=lambda w: RUN.failure_of_energy(w.cell, w.part),
    script:
        "../scripts/summarize_energy.py"
