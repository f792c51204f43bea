"""An encoder with classifiers on several of its layers, as a Hugging Face model.

arXiv 2004.07453: every classifier sees a weighted sum of the pooled first tokens of its own layer and those of the
classifiers before it; all are trained together on the sum of their cross-entropies. The layers above the highest
classifier are not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from longwatt.exit_rules import ExitRuleError, check_patience, check_temperatures, check_threshold
from longwatt.models.errors import ModelError
from longwatt.models.exit_inference import Leaver, Left
from longwatt.models.layerwise import Layerwise, check_layerwise
from longwatt.provenance import read_object

MODEL_TYPE = "longwatt_early_exit"
LEARNED, FROZEN_RANDOM = "learned", "frozen_random"


class EarlyExitConfig(PreTrainedConfig):  # type: ignore[misc]
    """Settings of an encoder with exits.

    Args:
        encoder: the configuration of the whole encoder, as a dictionary with its model_type.
        layers: encoder layers with a classifier, counted from 0, ascending.
        layer_weights: `learned`, or `frozen_random` unit vectors.
        labels: names of the classes, in the order of the logits.
        temperatures: one per classifier, what its logits are divided by; None before calibration.
        dropout: of the pooled states.
        pooler: where the pooler's first weights came from, `checkpoint` or `random`.
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
        **kwargs: Any,
    ) -> None:
        self.encoder = dict(encoder or {})
        self.layers = list(layers)
        self.layer_weights = layer_weights
        self.labels = list(labels)
        self.temperatures = None if temperatures is None else [float(value) for value in temperatures]
        self.dropout = dropout
        self.pooler = pooler
        names = {"id2label": dict(enumerate(self.labels)), "label2id": {n: i for i, n in enumerate(self.labels)}}
        super().__init__(**{**kwargs, **(names if self.labels else {})})


@dataclass
class EarlyExitOutput(ModelOutput):  # type: ignore[misc]
    """What a forward pass gives.

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
        place: how many classifiers come before it.
        width: of the pooled states.
        classes: labels.
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
        """First weights: equal ones of unit length to learn from, or a random direction to keep."""
        count = len(self.weights)
        if isinstance(self.weights, nn.Parameter):
            self.weights.fill_(count**-0.5)
        else:
            self.weights.copy_(nn.functional.normalize(torch.randn(count), dim=0))

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Logits (rows, classes) of pooled states (rows, width), those of earlier classifiers first."""
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
        self.encoder = AutoModel.from_config(cut, **_without_pooler(cut))
        self.dense = nn.Linear(cut.hidden_size, cut.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        learned = config.layer_weights == LEARNED
        sizes = (cut.hidden_size, len(config.labels))
        self.exits = nn.ModuleList(Exit(place, *sizes, learned) for place in range(len(config.layers)))
        self._layerwise: Layerwise | None = None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The encoder's own way, and a normal distribution of its width for the pooler and the classifiers."""
        super()._init_weights(module)
        if isinstance(module, Exit):
            module.start()

    @property
    def layerwise(self) -> Layerwise:
        """The encoder's layers, one by one."""
        if self._layerwise is None:
            self._layerwise = Layerwise(self.encoder)
        return self._layerwise

    def pool(self, hidden: Tensor) -> Tensor:
        """The pooled first token of a layer's output: (rows, length, width) to (rows, width)."""
        return self.dropout(torch.tanh(self.dense(self.layerwise.first_token(hidden))))  # type: ignore[no-any-return]

    def exit_logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits of all classifiers, uncalibrated: (exits, batch, classes) float32.

        Args:
            inputs: what the encoder takes: input_ids and attention_mask (batch, length), token_type_ids.
        """
        hidden, calls = self.layerwise.begin(inputs)
        pooled: list[Tensor] = []
        logits: list[Tensor] = []
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
        """Run all layers; `labels` (batch,) or (batch, 1) give the loss as well."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        logits = self.exit_logits({key: value for key, value in given.items() if value is not None})
        loss = None if labels is None else summed_loss(logits, labels)
        return EarlyExitOutput(loss=loss, logits=logits[-1], exit_logits=logits)


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over examples of the cross-entropies summed over classifiers.

    Args:
        logits: (exits, batch, classes).
        labels: (batch,) or (batch, 1).
    """
    exits = len(logits)
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten().repeat(exits)) * exits


def _without_pooler(config: Any) -> dict[str, bool]:
    """The argument that keeps an encoder from making a pooler of its own, where it would."""
    kind = AutoModel._model_mapping[type(config)]
    return {"add_pooling_layer": False} if "add_pooling_layer" in signature(kind.__init__).parameters else {}


def cut_config(encoder: Mapping[str, Any], layers: int) -> Any:
    """An encoder's configuration with only its first layers; what is said of each layer is cut with them."""
    given = dict(encoder)
    config = AutoConfig.for_model(given.pop("model_type"), **given)
    depth = config.num_hidden_layers
    for key, value in list(vars(config).items()):
        if key == "layer_types" and isinstance(value, list) and len(value) == depth:
            setattr(config, key, value[:layers])
    config.num_hidden_layers = layers
    return config
