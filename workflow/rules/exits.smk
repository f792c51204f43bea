"""Models with several exits: what their classifiers say, their temperatures, and how they compare with their baselines."""


rule record_exits:
    """Every classifier's logits at full depth, from which accuracy at any threshold follows."""
    input:
        unpack(cell_inputs),
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
    priority: priority_of
    conda:
        "../../envs/longwatt.yaml"
    threads: threads_of
    resources:
        gpu=gpus_of,
        nodes=1,
    params:
        settings=settings_of("record_exits"),
        code=code_of("record_exits"),
        work="results/{study}/{cell}/work/record_exits",
        failure="results/{study}/{cell}/work/failure-record_exits.json",
    script:
        "../scripts/record_exits.py"


rule calibrate:
    """One temperature for each classifier, fitted on a split that no result is taken from."""
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
    priority: reduction_priority()
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("calibrate"),
        code=code_of("calibrate"),
        failure="results/{study}/{cell}/work/failure-calibrate.json",
    script:
        "../scripts/calibrate.py"


rule judge_calibration:
    """How far confidences can be trusted before and after; no prediction rests on it."""
    input:
        logits="results/{study}/{cell}/exits/logits.jsonl",
        temperatures="results/{study}/{cell}/calibrate/temperatures.json",
    output:
        calibration="results/{study}/{cell}/calibrate/calibration.json",
    log:
        "logs/{study}/{cell}/judge_calibration.log",
    priority: reduction_priority()
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("judge_calibration"),
        code=code_of("judge_calibration"),
        failure="results/{study}/{cell}/work/failure-judge_calibration.json",
    script:
        "../scripts/judge_calibration.py"


rule compare_exits:
    """Models with exits beside the standard, the efficient ones and the oracle: time, accuracy, energy, with intervals."""
    input:
        lambda wildcards: STAGES.compare_exits_inputs(),
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
        settings=settings_of("compare_exits"),
        code=code_of("compare_exits"),
    script:
        "../scripts/compare_exits.py"


rule plot_exits:
    """Accuracy against time and energy, confidence, difficulty and reliability of models with exits."""
    input:
        exits="results/{study}/exits/exits.json",
        curve="results/{study}/exits/curve.csv",
        difficulty="results/{study}/exits/difficulty.csv",
        calibrations=lambda wildcards: list(STAGES.calibrations().values()),
    output:
        *exits_outputs(),
        report="results/{study}/exits/exits_figures.json",
    log:
        "logs/{study}/plot_exits.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        cells=list(STAGES.calibrations()),
        settings=settings_of("plot_exits"),
        code=code_of("plot_exits"),
    script:
        "../scripts/plot_exits.py"
