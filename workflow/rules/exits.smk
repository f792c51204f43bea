"""Models with several exits: recorded answers, temperatures, and a comparison with baselines."""


rule record_exits:
    """Record every classifier's logits, from which accuracy at any threshold follows."""
    input:
        unpack(lambda w: STAGES.inputs(w.cell)),
        model="results/{study}/{cell}/finetune/model",
        training="results/{study}/{cell}/finetune/training.json",
    output:
        logits="results/{study}/{cell}/exits/logits.jsonl",
        exits="results/{study}/{cell}/exits/exits.json",
        energy_log="results/{study}/{cell}/exits/energy.jsonl.gz",
    log:
        "logs/{study}/{cell}/record_exits.log",
    benchmark:
        "logs/{study}/{cell}/record_exits.benchmark.tsv"
    priority: lambda w: RUN.priority(w.cell)
    conda:
        "../../envs/longwatt.yaml"
    threads: lambda w: RUN.threads(w.cell)
    resources:
        gpu=lambda w: STAGES.gpus(w.cell),
        on_cpu=lambda w: RUN.on_cpu(STAGES.gpus(w.cell)),
        nodes=1,
    params:
        settings=lambda w: STAGES.record_exits(w.cell).settings,
        code=lambda w: RUN.code(STAGES.record_exits(w.cell)),
        work="results/{study}/{cell}/work/record_exits",
        failure="results/{study}/{cell}/work/failure-record_exits.json",
    script:
        "../scripts/record_exits.py"


rule calibrate:
    """Fit a temperature for each classifier, on a split that no result is taken from."""
    input:
        logits="results/{study}/{cell}/exits/logits.jsonl",
        exits="results/{study}/{cell}/exits/exits.json",
        training="results/{study}/{cell}/finetune/training.json",
        trained_model="results/{study}/{cell}/finetune/model",
    output:
        model=directory("results/{study}/{cell}/calibrate/model"),
        temperatures="results/{study}/{cell}/calibrate/temperatures.json",
    log:
        "logs/{study}/{cell}/calibrate.log",
    priority: RUN.reduction_priority
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.calibrate(w.cell).settings,
        code=lambda w: RUN.code(STAGES.calibrate(w.cell)),
        failure="results/{study}/{cell}/work/failure-calibrate.json",
    script:
        "../scripts/calibrate.py"


rule judge_calibration:
    """Judge confidences before and after calibration, on which no prediction rests."""
    input:
        logits="results/{study}/{cell}/exits/logits.jsonl",
        temperatures="results/{study}/{cell}/calibrate/temperatures.json",
    output:
        calibration="results/{study}/{cell}/calibrate/calibration.json",
    log:
        "logs/{study}/{cell}/judge_calibration.log",
    priority: RUN.reduction_priority
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.judge_calibration(w.cell).settings,
        code=lambda w: RUN.code(STAGES.judge_calibration(w.cell)),
        failure="results/{study}/{cell}/work/failure-judge_calibration.json",
    script:
        "../scripts/judge_calibration.py"


rule compare_exits:
    """Compare models with exits with the standard, the efficient ones and the oracle."""
    input:
        lambda w: outputs.compare_exits_inputs(STAGES),
    output:
        exits="results/{study}/exits/exits.json",
        curve="results/{study}/exits/curve.csv",
        difficulty="results/{study}/exits/difficulty.csv",
    log:
        "logs/{study}/compare_exits.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings=lambda w: STAGES.compare_exits().settings,
        code=lambda w: RUN.code(STAGES.compare_exits()),
    script:
        "../scripts/compare_exits.py"


rule plot_exits:
    """Draw accuracy, confidence, difficulty and reliability of models with exits."""
    input:
        exits="results/{study}/exits/exits.json",
        curve="results/{study}/exits/curve.csv",
        difficulty="results/{study}/exits/difficulty.csv",
        calibrations=lambda w: outputs.calibrations(STAGES),
    output:
        *figures_in_report("exits/figures", report_items.exit_figures(STAGES.study)),
        report="results/{study}/exits/exits_figures.json",
    log:
        "logs/{study}/plot_exits.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        cells=STAGES.with_exits,
        settings=lambda w: STAGES.plot_exits().settings,
        code=lambda w: RUN.code(STAGES.plot_exits()),
    script:
        "../scripts/plot_exits.py"
