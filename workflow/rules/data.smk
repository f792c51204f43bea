"""Everything that is made once and shared by all studies; first of all, so that bad data shows before any training.

Files that data are read from are `ancient`: Snakemake would miss older ones that replace them, and make everything again
after a mere touch. `longwatt.source_checks` compares what they hold.
"""


rule download_dataset:
    """Records of one dataset in the common schema."""
    input:
        files=ancient(lambda wildcards: STAGES.dataset_files(wildcards.dataset)),
    output:
        records="resources/datasets/{dataset}/records.jsonl",
        dataset="resources/datasets/{dataset}/dataset.json",
    log:
        "logs/datasets/{dataset}.log",
    priority: priorities.DATA
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("download_dataset"),
        code=code_of("download_dataset"),
        changed=changed_of("download_dataset"),
    script:
        "../scripts/download_dataset.py"


rule download_model:
    """Safetensors and configuration of one pretrained model."""
    input:
        files=ancient(lambda wildcards: STAGES.model_files(wildcards.model)),
    output:
        model="resources/models/{model}/model.json",
    log:
        "logs/models/{model}.log",
    priority: priorities.DATA
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("download_model"),
        code=code_of("download_model"),
        changed=changed_of("download_model"),
    script:
        "../scripts/download_model.py"


rule make_tokenizer:
    """A tokenizer trained on one dataset's training split, or a checkpoint's own."""
    input:
        records="resources/datasets/{dataset}/records.jsonl",
        dataset="resources/datasets/{dataset}/dataset.json",
        files=ancient(lambda wildcards: STAGES.tokenizer_files(wildcards.tokenizer)),
    output:
        tokenizer="resources/tokenizers/{dataset}/{tokenizer}/tokenizer.json",
        provenance="resources/tokenizers/{dataset}/{tokenizer}/provenance.json",
    log:
        "logs/tokenizers/{dataset}/{tokenizer}.log",
    priority: priorities.DATA
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("make_tokenizer"),
        code=code_of("make_tokenizer"),
        changed=changed_of("make_tokenizer"),
    script:
        "../scripts/make_tokenizer.py"


rule tokenize_dataset:
    """Token ids of whole inputs; every cell cuts them to its own length."""
    input:
        records="resources/datasets/{dataset}/records.jsonl",
        dataset="resources/datasets/{dataset}/dataset.json",
        tokenizer="resources/tokenizers/{dataset}/{tokenizer}/tokenizer.json",
    output:
        tokens=directory("resources/tokenized/{dataset}/{tokenizer}/tokens"),
        report="resources/tokenized/{dataset}/{tokenizer}/tokenized.json",
    log:
        "logs/tokenized/{dataset}/{tokenizer}.log",
    benchmark:
        "logs/tokenized/{dataset}/{tokenizer}.benchmark.tsv"
    priority: priorities.DATA
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=settings_of("tokenize_dataset"),
        code=code_of("tokenize_dataset"),
    script:
        "../scripts/tokenize_dataset.py"
