"""Make data once for all studies, and first, so that bad data shows before any training.

Files that data are read from are `ancient`: Snakemake would miss older ones that replace them, and
make everything again after a mere touch. `freshness/source_checks.py` compares what they hold.
"""


rule download_dataset:
    """Bring the records of one dataset in the common schema."""
    input:
        files=ancient(lambda w: source_checks.dataset_files(STAGES, w.dataset)),
    output:
        records="resources/datasets/{dataset}/records.jsonl",
        dataset="resources/datasets/{dataset}/dataset.json",
    log:
        "logs/datasets/{dataset}.log",
    priority: urgency.DATA
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.download_dataset(w.dataset).settings,
        code=lambda w: RUN.code(STAGES.download_dataset(w.dataset)),
        changed=lambda w: RUN.changed(STAGES.download_dataset(w.dataset)),
    script:
        "../scripts/download_dataset.py"


rule download_model:
    """Bring safetensors and configuration of one pretrained model."""
    input:
        files=ancient(lambda w: source_checks.model_source_files(STAGES, w.model)),
    output:
        model="resources/models/{model}/model.json",
    log:
        "logs/models/{model}.log",
    priority: urgency.DATA
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.download_model(w.model).settings,
        code=lambda w: RUN.code(STAGES.download_model(w.model)),
        changed=lambda w: RUN.changed(STAGES.download_model(w.model)),
    script:
        "../scripts/download_model.py"


rule make_tokenizer:
    """Train a tokenizer on one dataset's training split, or take a checkpoint's own."""
    input:
        records="resources/datasets/{dataset}/records.jsonl",
        dataset="resources/datasets/{dataset}/dataset.json",
        files=ancient(lambda w: source_checks.tokenizer_files(STAGES, w.tokenizer)),
    output:
        tokenizer="resources/tokenizers/{dataset}/{tokenizer}/tokenizer.json",
        provenance="resources/tokenizers/{dataset}/{tokenizer}/provenance.json",
    log:
        "logs/tokenizers/{dataset}/{tokenizer}.log",
    priority: urgency.DATA
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.make_tokenizer(w.dataset, w.tokenizer).settings,
        code=lambda w: RUN.code(STAGES.make_tokenizer(w.dataset, w.tokenizer)),
        changed=lambda w: RUN.changed(STAGES.make_tokenizer(w.dataset, w.tokenizer)),
    script:
        "../scripts/make_tokenizer.py"


rule tokenize_dataset:
    """Tokenize whole inputs, which every cell cuts to its own length."""
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
    priority: urgency.DATA
    conda:
        "../../envs/longwatt.yaml"
    params:
        settings=lambda w: STAGES.tokenize_dataset(w.dataset, w.tokenizer).settings,
        code=lambda w: RUN.code(STAGES.tokenize_dataset(w.dataset, w.tokenizer)),
    script:
        "../scripts/tokenize_dataset.py"
