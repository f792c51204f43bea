# All is in workflow/Snakefile, where Snakemake's own tools look for a workflow. This file lets
# `snakemake` be called here; a mere `include` would not bring the default target.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
