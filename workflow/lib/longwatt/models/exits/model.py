"""An encoder with classifiers on several of its layers, as a Hugging Face model.

As in arXiv 2004.07453, every classifier sees a weighted sum of the pooled first tokens of its own
layer and those of the classifiers before it. All are trained together on the sum of their
cross-entropies. The layers above the highest classifier are not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput, logging

from longwatt.files import read_object
from longwatt.models.configurations import check_complete, load_weights
from longwatt.models.errors import ModelError
from longwatt.models.exits.answers import ExitAnswer, Left
from longwatt.models.exits.encoder_config import LEARNED, MODEL_TYPE
from longwatt.models.exits.inference import Folded
from longwatt.models.exits.layerwise import Layerwise, check_layerwise
from longwatt.models.exits.rules import check_temperatures


class EarlyExitConfig(PreTrainedConfig):  # type: ignore[misc]
    """Settings of an encoder with exits.

    Args:
        encoder: the configuration of the whole encoder, as a dictionary with its model_type.
        layers: encoder layers with a classifier, counted from 0, ascending.
        layer_weights: `learned`, or `frozen_random` unit vectors.
        labels: names of the classes, in the order of the logits.
        temperatures: one per classifier, to divide its logits by; None before calibration.
        dropout: of the pooled states.
        pooler: source of the pooler's first weights, `checkpoint` or `random`.
        seq_len: most tokens of an input in training, and so in calibration and measurement; None
            where not known.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        encoder: Mapping[str, Any] | None = None,
        layers: Sequence[int] = (),
        layer_weights: str = LEARNED,
        labels: Sequence[str] = (),
        temperatures: Sequence[float] | None = None,
        dropout: float = 0.1,  # arXiv 2004.07453
        pooler: str = "random",
        seq_len: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.encoder = dict(encoder or {})
        self.layers = list(layers)
        self.layer_weights = layer_weights
        self.labels = list(labels)
        self.temperatures = None if temperatures is None else list(map(float, temperatures))
        self.dropout = dropout
        self.pooler = pooler
        self.seq_len = seq_len
        # The pooler and the classifiers begin as the encoder's own layers did.
        own = kwargs.pop("initializer_range", 0.02)
        self.initializer_range = float(self.encoder.get("initializer_range", own))
        if self.labels:
            kwargs["id2label"] = dict(enumerate(self.labels))
            kwargs["label2id"] = {label: index for index, label in enumerate(self.labels)}
        super().__init__(**kwargs)


@dataclass
class EarlyExitOutput(ModelOutput):  # type: ignore[misc]
    """The output of a forward pass.

    Attributes:
        loss: mean over the batch of the cross-entropies summed over classifiers; only with labels.
        logits: of the last classifier (batch, classes).
        exit_logits: of all classifiers (exits, batch, classes), uncalibrated, float32.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    exit_logits: Tensor | None = None


class Exit(nn.Module):
    """One classifier: a weighted sum of the pooled states so far, and a linear layer.

    Args:
        place: number of classifiers before it.
        width: of the pooled states.
        learned: whether the sum's weights are trained.
    """

    def __init__(self, place: int, width: int, classes: int, learned: bool) -> None:
        super().__init__()
        weights = torch.empty(place + 1)
        self.weights: Tensor
        if learned:
            self.weights = nn.Parameter(weights)
        else:
            self.register_buffer("weights", weights)
        self.classifier = nn.Linear(width, classes)

    @torch.no_grad()
    def start(self) -> None:
        """Set the first weights: equal ones of unit length to train, or a random direction."""
        count = len(self.weights)
        if isinstance(self.weights, nn.Parameter):
            self.weights.fill_(count**-0.5)
        else:
            self.weights.copy_(nn.functional.normalize(torch.randn(count), dim=0))

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Return logits (rows, classes) of pooled states (rows, width), in the exits' order."""
        if len(pooled) == 1:
            return self.classifier(pooled[0] * self.weights)  # type: ignore[no-any-return]
        stacked = torch.stack(list(pooled))
        summed = torch.mv(stacked.view(len(pooled), -1).t(), self.weights).view_as(pooled[0])
        return self.classifier(summed)  # type: ignore[no-any-return]


class EarlyExitModel(PreTrainedModel):  # type: ignore[misc]
    """An encoder up to its highest classifier, one pooler for all, and the classifiers."""

    config_class = EarlyExitConfig
    base_model_prefix = "early_exit"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = []

    def __init__(self, config: EarlyExitConfig) -> None:
        super().__init__(config)
        cut = cut_config(config.encoder, config.layers[-1] + 1)
        kind, key = AutoModel._model_mapping[type(cut)], "add_pooling_layer"
        none_of_its_own = {key: False} if key in signature(kind.__init__).parameters else {}
        self.encoder = AutoModel.from_config(cut, **none_of_its_own)
        self.dense = nn.Linear(cut.hidden_size, cut.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        learned = config.layer_weights == LEARNED
        sizes = (cut.hidden_size, len(config.labels), learned)
        self.exits = nn.ModuleList(Exit(place, *sizes) for place in range(len(config.layers)))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Draw linear layers like the library, and start the classifiers' sums."""
        super()._init_weights(module)
        if isinstance(module, Exit):
            module.start()

    @cached_property
    def layerwise(self) -> Layerwise:
        """The encoder's layers, one by one."""
        return Layerwise(self.encoder)

    @cached_property
    def folded(self) -> Folded:
        """The pooler and the classifiers, for inference."""
        return Folded(self.layerwise, self.dense, self.exits)

    def answer(self, left: Left) -> ExitAnswer:
        """Return an example's exit with the label's name and the layers run."""
        label, layers = self.config.labels[left.answer], self.config.layers[left.exit] + 1
        return ExitAnswer(label, left.confidence, left.exit, layers)

    def pool(self, hidden: Tensor) -> Tensor:
        """Pool the first token of a layer's output: (rows, length, width) to (rows, width)."""
        pooled: Tensor = self.dropout(torch.tanh(self.dense(self.layerwise.first_token(hidden))))
        return pooled

    def exit_logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the uncalibrated logits of all classifiers: (exits, batch, classes) float32."""
        hidden, calls = self.layerwise.begin(inputs)
        pooled, logits = list[Tensor](), list[Tensor]()
        for layer, call in enumerate(calls):
            hidden = call(hidden)
            if layer in self.config.layers:
                pooled.append(self.pool(hidden))
                logits.append(self.exits[len(logits)](pooled))
        return torch.stack(logits).float()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **unused: Any,
    ) -> EarlyExitOutput:
        """Run all layers, with the loss for `labels` (batch,) or (batch, 1)."""
        optional = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        given = {key: value for key, value in optional.items() if value is not None}
        logits = self.exit_logits({"input_ids": input_ids, **given})
        loss = None
        if labels is not None:
            # The mean over examples of the cross-entropies summed over classifiers.
            exits, gold = len(logits), labels.flatten()
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), gold.repeat(exits)) * exits
        return EarlyExitOutput(loss=loss, logits=logits[-1], exit_logits=logits)


def new_model(config: EarlyExitConfig, checkpoint: Path | None) -> EarlyExitModel:
    """Build a model to be trained: new classifiers on a random or a checkpoint's encoder.

    The checkpoint's pooler is used too, if it has one. A ModelError says that weights of the layers
    in use are missing, or that the encoder cannot be run by layers.
    """
    model = EarlyExitModel(config)
    if checkpoint:
        _take(model, checkpoint)
    check_layerwise(model.layerwise)
    return model


def _take(model: EarlyExitModel, checkpoint: Path) -> None:
    """Load a checkpoint's weights, except those of layers above the highest classifier."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # or it lists the unread weights of the layers above
    try:
        load, config = AutoModel.from_pretrained, model.encoder.config
        source, absent = load_weights(load, checkpoint, config=config)
    finally:
        logging.set_verbosity(before)
    check_complete([key for key in absent if not key.startswith("pooler.")], "encoder")
    held = source.state_dict()
    model.encoder.load_state_dict({key: held[key] for key in model.encoder.state_dict()})
    if not absent and "pooler.dense.weight" in held:
        pooler = {name: held[f"pooler.dense.{name}"] for name in ("weight", "bias")}
        model.dense.load_state_dict(pooler)
        model.config.pooler = "checkpoint"


def cut_config(encoder: Mapping[str, Any], layers: int) -> Any:
    """Return an encoder's configuration cut to its first layers, their types included."""
    given = dict(encoder)
    config = AutoConfig.for_model(given.pop("model_type"), **given)
    types = vars(config).get("layer_types")
    if isinstance(types, list) and len(types) == config.num_hidden_layers:
        config.layer_types = types[:layers]
    config.num_hidden_layers = layers
    return config


def load_trained(folder: Path, temperatures: Sequence[float] | None = None) -> EarlyExitModel:
    """Load a trained model in float32, or raise a ModelError unless folder and temperatures fit."""
    kind = read_object(folder / "config.json").get("model_type")
    if kind != MODEL_TYPE:
        wanted = f"one with exits ({MODEL_TYPE})"
        raise ModelError(f"{folder} holds a model of the kind {kind!r}, not {wanted}")
    model, absent = load_weights(EarlyExitModel.from_pretrained, folder)
    if absent:
        raise ModelError(f"{folder} lacks {len(absent)} of the model's weights, {absent[0]} first")
    if temperatures is not None:
        model.config.temperatures = check_temperatures(list(temperatures), len(model.config.layers))
    check_layerwise(model.layerwise)
    return model  # type: ignore[no-any-return]


def padded(
    ids: Sequence[Sequence[int]],
    segments: Sequence[Sequence[int]] | None,
    pad: int,
    length: int | None,
    device: Any = "cpu",
) -> dict[str, Tensor]:
    """Return an encoder's inputs (rows, length), padded on the right to `length` or the longest."""
    width = length if length is not None else max(map(len, ids))

    def rows(values: Sequence[Sequence[int]], filler: int) -> Tensor:
        filled = [[*row, *[filler] * (width - len(row))] for row in values]
        return torch.tensor(filled, device=device)

    ones = rows([[1] * len(row) for row in ids], 0)
    inputs = {"input_ids": rows(ids, pad), "attention_mask": ones}
    return inputs if segments is None else {**inputs, "token_type_ids": rows(segments, 0)}


# So that transformers' Auto classes know the folder too, once this module is loaded.
AutoConfig.register(MODEL_TYPE, EarlyExitConfig)
AutoModelForSequenceClassification.register(EarlyExitConfig, EarlyExitModel)
