import os

from snakemake.utils import min_version

min_version("9.10")  # the first that takes scheduler plugins


include: "workflow/rules/root.smk"


# Both are passed over where a `module` gives a `config`, which common.smk lays over the first.
configfile: f"{ROOT}/config.yaml"


# That of the folder that --directory names stands over this project's.
if os.path.exists("config.yaml") and not os.path.samefile(".", ROOT):

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


# Used with `--sdm apptainer` alone. None is published, so config.yaml names yours.
container: config.get("container")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/exits.smk"
include: "workflow/rules/cascades.smk"
include: "workflow/rules/report.smk"


# Seconds each, or a download that compute nodes cannot make: not worth a place in a queue.
workflow.localrules(
    *named_here(
        [
            "all",
            "download_dataset",
            "download_model",
            "make_tokenizer",
            "score",
            "summarize_energy",
            "calibrate",
            "judge_calibration",
            "fit_cascade",
            "cascade",
            "compare_exits",
            "plot_exits",
            "summarize",
            "tabulate",
            "plot",
            "plot_power",
            "judge_claims",
            "answer",
            "partial",
            "plan",
            "compare",
        ]
    )
)


rule all:
    default_target: workflow.default_target is None  # an importing workflow may have its own
    input:
        lambda w: [*outputs.kept(STAGES), *RUN.awaited],
