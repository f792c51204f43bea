"""Cascades: a cell answers first, and another where that one is unsure."""


rule fit_cascade:
    """Fit the threshold of a cascade, on a split that its result is not taken from."""
    input:
        unpack(lambda w: STAGES.fit_cascade_inputs(w.cell, w.inference)),
    output:
        threshold="results/{study}/{cell}/cascade/{inference}/threshold.json",
    log:
        "logs/{study}/{cell}/fit_cascade-{inference}.log",
    priority: RUN.reduction_priority
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.fit_cascade(w.cell, w.inference).settings,
        code=lambda w: RUN.code(STAGES.fit_cascade(w.cell, w.inference)),
        failure="results/{study}/{cell}/work/failure-fit_cascade-{inference}.json",
    script:
        "../scripts/fit_cascade.py"


rule cascade:
    """Write score against energy for all cascades of finished cells, whenever asked for."""
    log:
        f"logs/{STAGES.study_id}/cascade.log",
    conda:
        "../../envs/longwatt.yaml"
    params:
        results=STAGES.results,
        settings=lambda w: STAGES.cascade_settings(),
        stamps=lambda w: IN_FORCE.stamps(),
        code=lambda w: IN_FORCE.code_of_rule("cascade"),
    script:
        "../scripts/cascade.py"
