"""Cells that train adapters: what changes, what is kept, and what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

from longwatt.config.documents import merge
from longwatt.inference import predict
from longwatt.jobs.errors import WorkerError
from longwatt.jobs.worker import Spec
from longwatt.models import load_family
from longwatt.models.adapters import is_adapted
from longwatt.models.errors import ModelError
from longwatt.models.weights.download import download_model
from longwatt.provenance.artefacts import Damaged
from longwatt.study.cells import expand
from longwatt.study.settings import finetune_settings, probe_settings
from longwatt.tokens.special_tokens import load_tokenizer
from longwatt.training import finetune, probe_batch_size
from tests import forked
from tests.needle_data import make_data
from tests.tiny_cell import inference_spec, training_spec
from tests.tiny_exits import read_tiny_exits
from tests.unit.models.attention_models import spread

LORA = {
    "kind": "lora", "rank": 2, "alpha": 8, "dropout": 0.1, "target_modules": None, "merge": False,
}  # fmt: skip
CONFIGS = {
    "led": {},
    "seq2seq": {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1,
                "num_heads": 2},
    "causal": {"model_type": "llama", "hidden_size": 16, "intermediate_size": 16,
               "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
               "max_position_embeddings": 128},
}  # fmt: skip


@pytest.fixture(scope="module")
def bases(study, data, tmp_path_factory):
    """A pretrained model of each family, as it lies among the resources."""
    tokenizer, found = load_tokenizer(data / "bpe"), {}
    for name, config in CONFIGS.items():
        family, folder = load_family(name), tmp_path_factory.mktemp(name)
        entry = {"config": config or study["models"]["led"]["config"]}
        built = family.build(entry, tokenizer, None, 64, 32)
        spread(built)  # so that a little training changes what it says
        built.save_pretrained(folder / "saved")
        download_model({"path": str(folder / "saved")}, folder / f"{name}-12345678", {})
        found[name] = folder / f"{name}-12345678"
    return found


def changes(family: str, lora: dict | None = None, **more) -> dict:
    model = {"family": family, "initialisation": "checkpoint", "config": None}
    adapted = {"lora": {**LORA, **(lora or {})}}
    training = {"max_steps": 4, "learning_rate": 3e-2, "validation": {"every_steps": 2}}
    return merge({"model": {**model, **adapted}, "training": training}, more)


def train(study, data, out, base, chosen) -> dict:
    spec = training_spec(study, data, out, chosen, base)
    spec.settings["model"]["attention"] = load_family(chosen["model"]["family"]).attention_paths[0]
    finetune.train(spec)
    return json.loads((out / "training.json").read_text())


def infer(study, data, out, base, family, model=None, **more):
    """Rows and facts of predictions, with adapters beside a base unless `more` says otherwise."""
    path = load_family(family).attention_paths[0]
    settings = {"family": family, "attention": path, "generation": {"max_new_tokens": 8}, **more}
    spec = inference_spec(study, data, model or "none", out, settings)
    spec.paths["checkpoint"] = str(base / "model.json")
    if model is None:
        del spec.paths["model"]
    predict.infer(spec)
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    return {r["id"]: r["prediction"] for r in rows}, json.loads(
        (out / "inference.json").read_text()
    )


@pytest.mark.parametrize("family", CONFIGS)
def test_adapters_alone_are_trained_kept_and_predict_beside_their_base(
    study, data, bases, tmp_path, family
):
    base = bases[family]
    before = load_file(base / "model.safetensors")
    facts = train(study, data, tmp_path, base, changes(family))
    assert all(torch.equal(before[n], t) for n, t in load_file(base / "model.safetensors").items())
    assert facts["adaptation"] == "lora r2"
    assert 0 < facts["trainable_parameters"] < facts["parameters"] / 4
    # LED's bias of its logits is a buffer, no parameter.
    weights = (t for name, t in before.items() if name != "final_logits_bias")
    assert facts["parameters"] == sum(t.numel() for t in weights)
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "base.json"} <= files
    assert not files & {"model.safetensors", "trained.safetensors"}
    assert {f"model/{name}" for name in files} <= facts["sha256"].keys()
    held = load_file(tmp_path / "model/adapter_model.safetensors")
    assert sum(t.numel() for t in held.values()) == facts["trainable_parameters"]
    known = json.loads((tmp_path / "model/base.json").read_text())
    assert known["checkpoint"] == f"{family}-12345678"
    assert known["sha256"] == json.loads((base / "model.json").read_text())["sha256"]
    said, facts = infer(study, data, tmp_path / "p", base, family, tmp_path / "model", lora=True)
    initial = {"inference": {"weights": "initial"}, "config": None}
    other, _ = infer(study, data, tmp_path / "zero", base, family, **initial)
    assert said.keys() == other.keys() and said != other, "the adapters were in use"


def test_led_with_adapters_takes_the_stock_path_and_says_why(study, data, bases, tmp_path):
    facts = train(study, data, tmp_path, bases["led"], changes("led"))
    assert facts["attention"] == "stock"
    assert any("adapter" in note for note in facts["notes"])
    _, said = infer(study, data, tmp_path / "p", bases["led"], "led", tmp_path / "model", lora=True)
    assert said["attention"] == "stock"


@pytest.mark.parametrize("family", CONFIGS)
def test_a_merged_model_is_whole_and_predicts_as_its_adapters_do(
    study, data, bases, tmp_path, family
):
    base = bases[family]
    facts = train(study, data, tmp_path / "merged", base, changes(family, {"merge": True}))
    train(study, data, tmp_path / "apart", base, changes(family))
    merged, apart = tmp_path / "merged/model", tmp_path / "apart/model"
    for name in ("adapter_model.safetensors", "adapter_config.json", "base.json"):
        assert (merged / "adapter" / name).read_bytes() == (apart / name).read_bytes()
        assert f"model/adapter/{name}" in facts["sha256"]
    assert not (merged / "adapter_config.json").exists()
    before, after = (load_file(folder / "model.safetensors") for folder in (base, merged))
    assert before.keys() == after.keys()
    assert not all(torch.equal(before[name], after[name]) for name in before)
    assert facts["trainable_parameters"] < facts["parameters"]
    one, said = infer(study, data, tmp_path / "m", base, family, merged)
    other, _ = infer(study, data, tmp_path / "a", base, family, apart, lora=True)
    assert one == other and said["attention"] == load_family(family).attention_paths[0]


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_killed_and_resumed_a_training_ends_as_if_undisturbed(
    study, data, bases, tmp_path, monkeypatch, kind
):
    chosen = changes("led", {"kind": kind, "merge": True}, training={"max_steps": 5})
    whole = train(study, data, tmp_path / "whole", bases["led"], chosen)
    original = finetune.CellTrainer.training_step
    for step in (1, 4):

        def stop(self, *args, step=step, **kwargs):
            if self.state.global_step >= step:
                raise KeyboardInterrupt
            return original(self, *args, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(finetune.CellTrainer, "training_step", stop)
            train(study, data, tmp_path / "killed", bases["led"], chosen)
        kept = {p.name for p in (tmp_path / "killed/work/checkpoints").rglob("*.safetensors")}
        assert kept == {"trained.safetensors"}
    resumed = train(study, data, tmp_path / "killed", bases["led"], chosen)
    assert [a["from_step"] for a in resumed["attempts"]] == [0, 1, 4]
    assert resumed["best_score"] == whole["best_score"]
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        a, b = (load_file(tmp_path / n / "model" / name) for n in ("whole", "killed"))
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_best_adapters_are_kept_not_the_last(study, data, bases, tmp_path, monkeypatch):
    scores = iter([5.0, 1.0])
    monkeypatch.setattr(finetune.Validator, "score", lambda self: (next(scores), 0.0))
    seen = {}
    original = finetune.CellTrainer._keep_weights

    def look(self, step):
        original(self, step)
        seen[step] = load_file(self.work.best(step) / "trained.safetensors")

    monkeypatch.setattr(finetune.CellTrainer, "_keep_weights", look)
    facts = train(study, data, tmp_path, bases["led"], changes("led"))
    assert (facts["best_step"], facts["steps"]) == (2, 4) and list(seen) == [2]
    held = load_file(tmp_path / "model/adapter_model.safetensors")
    for name, tensor in held.items():
        own = name.removeprefix("base_model.model.")
        own = own.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
        assert torch.equal(tensor, seen[2][own])


def test_a_base_that_changed_under_its_adapters_is_refused(study, data, bases, tmp_path):
    base = tmp_path / "led-12345678"
    shutil.copytree(bases["led"], base)
    train(study, data, tmp_path / "t", base, changes("led"))
    model = tmp_path / "t/model"
    told = {"lora": True}
    with (base / "model.safetensors").open("r+b") as stream:
        stream.seek(-9, 2)
        stream.write(b"x")
    with pytest.raises(WorkerError, match=r"base of the adapters in .*changed.*model\.safetensors"):
        infer(study, data, tmp_path / "p", base, "led", model, **told)
    initial = {"inference": {"weights": "initial"}, "config": None}
    with pytest.raises(Damaged, match=r"model\.safetensors is damaged"):
        infer(study, data, tmp_path / "z", base, "led", **initial)


def test_target_modules_that_match_nothing_are_refused_before_training(
    study, data, bases, tmp_path
):
    wrong = changes("led", {"target_modules": ["q_prj"]})
    with pytest.raises(ModelError, match=r"lora\.target_modules: 'q_prj' matches no linear layer"):
        train(study, data, tmp_path, bases["led"], wrong)
    assert not (tmp_path / "work/checkpoints").exists() or not list(
        (tmp_path / "work/checkpoints").iterdir()
    )


def test_mixed_precision_trains_adapters_too(study, data, bases, tmp_path):
    chosen = changes("seq2seq", budget={"precision": "bf16"})
    facts = train(study, data, tmp_path, bases["seq2seq"], chosen)
    assert facts["steps"] == 4 and facts["adaptation"] == "lora r2"
    held = load_file(tmp_path / "model/adapter_model.safetensors")
    assert all(t.dtype == torch.float32 for t in held.values())


def test_an_adapter_in_place_of_a_model_is_refused(study, data, bases, tmp_path):
    train(study, data, tmp_path / "t", bases["led"], changes("led"))
    with pytest.raises(ModelError, match=r"holds adapters, not a model.*longwatt\.models merge"):
        download_model({"path": str(tmp_path / "t/model")}, tmp_path / "resources", {})


LABELLED = {"family": "early_exit", "initialisation": "checkpoint"}


@pytest.fixture
def labelled(tmp_path):
    """A study of labels, its data, and the encoder that its models begin as."""
    found = read_tiny_exits(tmp_path)
    options = found["datasets"]["words"]["options"]
    source = {"source": "labelled", "task": "classification", "options": options}
    made = make_data(tmp_path / "made", source, {"vocab_size": 400, "min_frequency": 1})
    (tmp_path / "encoder").mkdir()
    config = dict(found["models"]["exits"]["config"])
    torch.manual_seed(0)
    encoder = AutoModel.from_config(AutoConfig.for_model(**config, vocab_size=400))
    encoder.save_pretrained(tmp_path / "encoder/saved")
    base = tmp_path / "encoder/bert-12345678"
    download_model({"path": str(tmp_path / "encoder/saved")}, base, {})
    return found, made, base


def test_a_classifier_is_trained_whole_beside_adapters_and_kept_as_one_model(labelled, tmp_path):
    study, made, base = labelled
    model = {**LABELLED, "config": None, "lora": {**LORA, "merge": True}}
    training = {"max_steps": 4, "validation": {"every_steps": 2}}
    cell = next(iter(expand(study).values()))
    spec = training_spec(study, made, tmp_path, {}, base)
    spec.settings.clear()
    spec.settings.update(
        merge(finetune_settings(study, cell), {"model": model, "training": training})
    )
    finetune.train(spec)
    facts = json.loads((tmp_path / "training.json").read_text())
    assert facts["adaptation"] == "lora r2" and facts["exit_kind"] == "early_exit"
    held = load_file(tmp_path / "model/model.safetensors")
    assert not any("lora_" in name for name in held)
    assert not (tmp_path / "model/adapter").exists(), "adapters alone would not be this model"
    trained_whole = sum(
        t.numel() for name, t in held.items() if name.startswith(("dense.", "exits."))
    )
    assert trained_whole < facts["trainable_parameters"] < facts["parameters"]
    before = load_file(base / "model.safetensors")
    embeddings = "embeddings.word_embeddings.weight"
    assert torch.equal(held[f"encoder.{embeddings}"], before[embeddings]), "no linear layer"
    query = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(held[f"encoder.{query}"], before[query]), "adapters were added"
    assert held["dense.weight"].shape == before["pooler.dense.weight"].shape
    assert not torch.equal(held["dense.weight"], before["pooler.dense.weight"])
    family = load_family("early_exit")
    built = family.build({}, load_tokenizer(tmp_path / "model"), tmp_path / "model", 24, 1)
    assert not is_adapted(built)


def test_two_processes_train_adapters_as_one_does(study, data, bases, tmp_path):
    calm = changes("seq2seq", {"dropout": 0}, protocol="teacher_forced")
    weights = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        out.mkdir()
        split = {"processes": processes, "per_device_batch_size": 4 // processes}
        spec = training_spec(study, data, out, merge(calm, {"budget": split}), bases["seq2seq"])
        path = load_family("seq2seq").attention_paths[0]
        spec.settings["model"] |= {"attention": path, "config": {"dropout_rate": 0.0}}
        done = forked.run(finetune.train, [spec] * processes)
        assert done == [0] * processes, (out / "processes.log").read_text()
        weights[processes] = load_file(out / "model/adapter_model.safetensors")
    apart = [(weights[1][name] - weights[2][name]).abs().max() for name in weights[1]]
    assert max(apart) < 1e-4


def test_the_largest_batch_is_found_with_adapters_on(study, data, bases, tmp_path):
    chosen = changes("led")
    spec = training_spec(study, data, tmp_path, chosen, bases["led"])
    spec.settings["budget"] |= {"per_device_batch_size": "largest", "memory_gib_per_gpu": 1.0}
    spec.settings["model"]["attention"] = "fast"
    probed = dict(probe_settings(spec.settings))
    asked = Spec(probed, spec.paths, spec.identity, {}, spec.error, None)
    (tmp_path / "work").mkdir(exist_ok=True)
    found = probe_batch_size._steps(asked, 1, torch.device("cpu"))
    assert found["attention"] == "stock" and found["peak_gib"] > 0


def test_a_family_that_leaves_adapters_out_is_refused(study, data, bases, tmp_path, monkeypatch):
    monkeypatch.setattr("longwatt.models.adapters.adapt", lambda *args: None)
    with pytest.raises(ModelError, match="does not take `lora`: its `build` must call"):
        train(study, data, tmp_path, bases["led"], changes("led"))
