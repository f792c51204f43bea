"""Any encoder of Hugging Face with classifiers on several layers (arXiv 2004.07453).

Early exits are compared with two models of one classifier: the standard model has it on the last
layer, the efficient one on a layer below. The code behind this family, which needs torch, is in
`exit_model`, `exit_inference` and `layerwise`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from longwatt.files import read_object
from longwatt.models import attention_choice, configurations
from longwatt.models.errors import ModelError
from longwatt.models.exits import encoder_config
from longwatt.models.exits.rules import ExitRuleError, check_temperatures, exit_rule
from longwatt.models.family import (
    EAGER,
    FLASH,
    FLEX,
    SDPA,
    STOCK,
    Answer,
    Batch,
    Classifier,
    Config,
    Example,
    Exits,
    Labels,
    attention_path,
    is_to_adapt,
)
from longwatt.spelling import nearest
from longwatt.tasks import CLASSIFICATION

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from longwatt.models.exits.answers import ExitAnswer
    from longwatt.models.exits.model import EarlyExitModel

EXIT_KEYS = ("layers", "layer_weights", "temperatures")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def exit_kind(layers: Sequence[int], encoder_layers: int) -> str:
    """Return a model's part in the comparison: `early_exit`, `standard` or `efficient`."""
    if len(layers) > 1:
        return "early_exit"
    return "standard" if layers[0] == encoder_layers - 1 else "efficient"


class EarlyExit(Classifier):
    """Classification by any Hugging Face encoder, at one exit or several."""

    task: ClassVar[str] = CLASSIFICATION
    attention_paths: ClassVar[tuple[str, ...]] = (STOCK, SDPA, EAGER, FLASH, FLEX)
    trained_whole: ClassVar[tuple[str, ...]] = ("dense", "exits")
    pad_token_id: int = 0
    segments: bool = False

    def check(
        self, config: Config, given: Config, seq_len: int, target_tokens: int, exits: Exits = None
    ) -> None:
        """See `Family.check`. The encoder's depth may be unknown until `build`."""
        trained = config.get("model_type") == encoder_config.MODEL_TYPE
        stated = config if trained and exits is None else exits
        if stated is None:
            example = "exits: {layers: [0, 4, 12, 23]}"
            raise ModelError(f"a model of the family early_exit needs `exits`, as in {example}")
        if stated is exits:
            for key in stated:
                if key not in EXIT_KEYS:
                    raise ModelError(f"exits: unknown key {key!r}{nearest(str(key), EXIT_KEYS)}")
        layers = check_layers(stated.get("layers"), encoder_config.depth(config))
        weights = stated.get("layer_weights", encoder_config.LEARNED)
        if weights not in encoder_config.LAYER_WEIGHTS:
            hint = nearest(str(weights), encoder_config.LAYER_WEIGHTS)
            allowed = " or ".join(encoder_config.LAYER_WEIGHTS)
            raise ModelError(f"exits: layer_weights must be {allowed}, but is {weights!r}{hint}")
        if stated.get("temperatures") is not None:
            try:
                check_temperatures(stated["temperatures"], len(layers))
            except ExitRuleError as error:
                raise ModelError(f"exits: {error}") from None
        _check_length(config, seq_len)

    def notes(self, config: Config, seq_len: int) -> list[str]:
        """See `Family.notes`."""
        notes = super().notes(config, seq_len)
        if config.get("pooler") == "random":
            notes.append("the pooler began with random weights: the encoder comes without one")
        if config.get("layer_weights") == encoder_config.FROZEN_RANDOM:
            notes.append(
                "the layer weights are frozen random unit vectors, as in the public code of "
                "arXiv 2004.07453"
            )
        return notes

    def facts(self, config: Config) -> dict[str, Any]:
        """See `Family.facts`: kind of model, layers with a classifier, all layers, labels."""
        layers, deepest = config["layers"], encoder_config.depth(config["encoder"])
        assert deepest is not None, "a configuration of transformers states all it has"
        kind = exit_kind(layers, deepest)
        known = {"exit_kind": kind, "exit_layers": layers, "encoder_layers": deepest}
        return {**known, "labels": config["labels"]}

    def build(
        self,
        model: Config,
        tokenizer: Any,
        checkpoint: Path | None,
        seq_len: int,
        target_tokens: int,
        labels: Sequence[str] = (),
    ) -> nn.Module:
        """See `Family.build`."""
        self.pad_token_id = configurations.pad_token_of(tokenizer)
        self.attention = attention_path(self, model)
        known = read_object(checkpoint / "config.json") if checkpoint else {}
        if checkpoint and known.get("model_type") == encoder_config.MODEL_TYPE:
            from longwatt.models.exits.model import load_trained

            built = load_trained(checkpoint, (model.get("exits") or {}).get("temperatures"))
        else:
            built = self._new(model, tokenizer, checkpoint, labels)
        config = built.config.to_dict()
        configurations.check_vocabulary(config["encoder"]["vocab_size"], tokenizer)
        self.check(config, {}, seq_len, target_tokens)
        theirs, ours = config["labels"], list(labels)
        if ours and ours != theirs:
            raise ModelError(f"the model tells {theirs} apart, not the dataset's {ours}")
        self.segments = encoder_config.has_segments(config)
        if labels:  # it is to be trained, at this length
            built.config.seq_len = seq_len
        attention_choice.choose(built.encoder, self.attention)
        return built

    def place(self, model: nn.Module, device: torch.device, precision: str) -> nn.Module:
        """See `Family.place`. It may raise a ModelError: the device lacks the path chosen."""
        placed = model.to(device)
        encoder = attention_choice.core(placed).encoder
        attention_choice.choose_on(encoder, self.attention, device, precision)
        return placed

    def _new(
        self, model: Config, tokenizer: Any, checkpoint: Path | None, labels: Sequence[str]
    ) -> EarlyExitModel:
        """Build an encoder with new classifiers."""
        from transformers import AutoConfig

        from longwatt.models.exits.model import EarlyExitConfig, new_model

        if len(labels) < 2:
            found = f"the dataset has {list(labels)}"
            raise ModelError(f"a classifier needs two labels at least, but {found}")
        given, exits = dict(model.get("config") or {}), dict(model.get("exits") or {})
        if checkpoint:
            encoder = configurations.read_known(AutoConfig.from_pretrained, checkpoint, given)
        else:
            encoder = _new_config(given, tokenizer)
        self.check(encoder.to_dict(), given, 1, 1, exits or None)
        config = EarlyExitConfig(
            encoder=encoder.to_dict(),
            layers=exits["layers"],
            layer_weights=exits.get("layer_weights", encoder_config.LEARNED),
            labels=list(labels),
            temperatures=exits.get("temperatures"),
        )
        built = new_model(config, checkpoint)
        if is_to_adapt(model):
            from longwatt.models import adapters

            adapters.adapt(built, model, self.trained_whole)
        return built

    def collate(self, chosen: Sequence[Example], pad_to: int | None, targets: int | None) -> Batch:
        """See `Family.collate`: input_ids, attention_mask (rows, length), labels (rows, 1).

        Encoders that tell a second text from a first get token_type_ids (rows, length) as well.
        """
        import torch

        from longwatt.models.exits.model import padded

        ids = [example.input_ids for example in chosen]
        segments = [_segments(example) for example in chosen] if self.segments else None
        labels = torch.tensor([example.labels[:1] for example in chosen], dtype=torch.long)
        return {**padded(ids, segments, self.pad_token_id, pad_to), "labels": labels}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Family.loss`: mean over examples of the cross-entropies summed over classifiers."""
        # Gradients are gathered through the model's own forward pass.
        loss: Tensor = model(**batch).loss
        return loss

    def predict(self, model: nn.Module, batch: Batch, how: Mapping[str, Any]) -> list[ExitAnswer]:
        """See `Family.predict`. With `uncalibrated` in `how`, temperatures are not applied.

        Raises:
            ModelError: the rule cannot be followed, or needs temperatures that the model lacks.
        """
        from longwatt.models.exits.inference import Leaver

        own = _unwrapped(model)
        try:
            rule = exit_rule(how.get("exit"))
        except ExitRuleError as error:
            raise ModelError(str(error)) from None
        leaver = Leaver(own, rule, int(how["batch_size"]), bool(how.get("uncalibrated", False)))
        return [own.answer(left) for left in leaver.leave(_inputs(batch), batch.get("labels"))]

    def answers(self, predicted: list[ExitAnswer], tokenizer: Any) -> list[Answer]:
        """See `Family.answers`. Facts are the exit, the layers run and the confidence."""
        keys = ("exit", "layers", "confidence")
        return [Answer(one.label, 1, {key: getattr(one, key) for key in keys}) for one in predicted]

    def exit_logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Classifier.exit_logits`."""
        return _unwrapped(model).exit_logits(_inputs(batch))

    def score(self, metric: str, predictions: Labels, labels: Labels) -> float:
        """See `Classifier.score`."""
        from longwatt.metrics.classification import headline_score

        return headline_score(metric, predictions, labels)


def check_layers(layers: Any, encoder_layers: int | None) -> list[int]:
    """Return layers, or raise a ModelError unless they are from 0, ascending, once, and there."""
    if not isinstance(layers, list | tuple) or not layers:
        wanted = "a list of encoder layers, counted from 0"
        raise ModelError(f"exits: layers must be {wanted}, but is {layers!r}")
    for layer in layers:
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            raise ModelError(f"exits: layers must be whole numbers from 0, but one is {layer!r}")
    repeated = sorted({layer for layer in layers if list(layers).count(layer) > 1})
    if repeated:
        raise ModelError(f"exits: layers names {repeated[0]} more than once, in {list(layers)}")
    if list(layers) != sorted(layers):
        better = f"{sorted(layers)} instead of {list(layers)}"
        raise ModelError(f"exits: layers must ascend; say {better}")
    if encoder_layers is not None and layers[-1] >= encoder_layers:
        there = f"{encoder_layers} layers, 0 to {encoder_layers - 1}"
        raise ModelError(f"exits: layers has {layers[-1]}, but the encoder has {there}")
    return list(layers)


def _check_length(config: Config, seq_len: int) -> None:
    limit = encoder_config.most_tokens(config)
    if limit is None or seq_len <= limit:
        return
    positions = encoder_config.encoder_of(config).get("max_position_embeddings", limit)
    unused = positions - limit
    offset = f" less the {unused} that stand before the first token's" if unused else ""
    raise ModelError(
        f"seq_len {seq_len} is above the encoder's max_position_embeddings of {positions}{offset}; "
        f"lower it to {limit}, or raise max_position_embeddings in the model's config"
    )


def _new_config(given: Config, tokenizer: Any) -> Any:
    """Return the configuration of a new encoder, with the tokenizer's ids in its kind's roles."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES as KINDS

    kind = given.get("model_type")
    if kind not in KINDS:
        raise ModelError(
            f"the family early_exit needs the model's config to name a model_type; {kind!r} is none"
            f"{nearest(str(kind), KINDS)}; "
            "bert, roberta, distilbert, electra and modernbert are known to work"
        )
    default = AutoConfig.for_model(kind)
    configurations.check_keys(given, default)
    roles = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    ids = {role: getattr(tokenizer, role, None) for role in roles if hasattr(default, role)}
    settings = {"vocab_size": len(tokenizer), **ids, **configurations.without_kind(given)}
    return AutoConfig.for_model(kind, **settings)


def _segments(example: Example) -> list[int]:
    """Return token types: 0, and 1 from where the second text begins."""
    length, start = len(example.input_ids), example.second_start
    first = length if start is None else min(start, length)
    return [0] * first + [1] * (length - first)


def _inputs(batch: Batch) -> Batch:
    return {key: batch[key] for key in INPUTS if key in batch}


def _unwrapped(model: nn.Module) -> EarlyExitModel:
    """Return the model itself, without the wrapper of data-parallel training."""
    own: Any = getattr(model, "module", model)
    return own  # type: ignore[no-any-return]


FAMILY = EarlyExit
