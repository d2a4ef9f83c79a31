"""Parakeet with a prediction network, TDT and RNN-T, as three graphs.

PCM to what the joint network hears in every frame; a token and states to a prediction and states;
both to logits. The prediction network is an LSTM (arXiv 1308.0850, section 2, without peepholes),
written out, so that its weights are Linears as all others. It has a graph of its own because it
runs after tokens that are text only, which are few among all steps. What has one position has an
axis for it: onnxruntime turns a quantized 2-D MatMul with a bias into a float Gemm.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mqruntime.bundle.manifest import Manifest
from mqtool.exporters.families.family import Family
from mqtool.exporters.families.fast_conformer import Encoder
from mqtool.exporters.families.parakeet import front_end_of
from mqtool.exporters.families.transducer_reference import reference_cases, reference_texts
from mqtool.exporters.families.transducer_settings import read_transducer
from mqtool.exporters.families.two_graphs import ENCODER
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parakeet_frontend import prepend_log_mel
from mqtool.exporters.sources.find import Source
from mqtool.exporters.tokenizer import VOCABULARY, write_vocabulary

__all__ = ["FAMILY", "FrameEncoder", "Joint", "Predictor", "write_folder"]

PREDICTOR = "predictor.onnx"
JOINT = "joint.onnx"


class FrameEncoder(Encoder):
    """Features to what the joint network takes of each frame."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.encoder)
        self.encoder_projector = model.encoder_projector

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, mels] to [batch, steps, size]."""
        heard: Tensor = self.encoder_projector(super().forward(features))
        return heard


class Cell(nn.Module):
    """One layer of an LSTM, one step: gates for input, forgetting, candidate and output."""

    def __init__(self, lstm: nn.LSTM, layer: int) -> None:
        super().__init__()
        self.input, self.hidden = (_linear(lstm, f"{kind}_l{layer}") for kind in ("ih", "hh"))

    def forward(self, given: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """All [batch, 1, size]; the new hidden and cell state."""
        gates = self.input(given) + self.hidden(hidden)
        entering, kept, candidate, leaving = gates.chunk(4, -1)
        cell = torch.sigmoid(kept) * cell + torch.sigmoid(entering) * torch.tanh(candidate)
        return torch.sigmoid(leaving) * torch.tanh(cell), cell


def _linear(lstm: nn.LSTM, name: str) -> nn.Linear:
    weight: nn.Parameter = getattr(lstm, f"weight_{name}")
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = weight, getattr(lstm, f"bias_{name}")
    return linear


class Predictor(nn.Module):
    """A token to what it predicts after those before it."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.embedding = decoder.embedding
        layers = range(decoder.lstm.num_layers)
        self.decoder.lstm = nn.ModuleList(Cell(decoder.lstm, layer) for layer in layers)
        self.decoder.decoder_projector = decoder.decoder_projector

    def forward(self, tokens: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            tokens: int64 [batch, 1].
            states: of each layer hidden and cell state, [batch, 1, size].

        Returns:
            Prediction [batch, 1, size], and the new states.
        """
        decoder: Any = self.decoder
        given, new = decoder.embedding(tokens), []
        for place, layer in enumerate(decoder.lstm):
            given, cell = layer(given, *states[2 * place : 2 * place + 2])
            new += [given, cell]
        return decoder.decoder_projector(given), *new


class Joint(nn.Module):
    """What was heard and what was predicted to logits of tokens, and of durations if any."""

    def __init__(self, joint: Any) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, frame: Tensor, prediction: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Both [batch, pairs, size] to [batch, pairs, vocabulary], [batch, pairs, durations]."""
        logits: Tensor = self.joint.head(self.joint.activation(frame + prediction))
        tokens = self.joint.vocab_size
        durations = logits.shape[-1] - tokens
        return torch.split(logits, [tokens, durations], -1) if durations else logits


def write_folder(model: Any, source: Source, folder: Path) -> Manifest:
    """Write the graphs and the token table; return the manifest that describes them.

    Raises:
        ExportError: the tokenizer or the feature extractor's settings are missing or not known.
        OptionError: a language is asked for.
    """
    config = model.config
    front_end = front_end_of(model, source)
    _, tokens, settings = read_transducer(model, source, front_end)
    write_vocabulary(tokens, folder / VOCABULARY)
    size = settings.size
    heard = trace(
        FrameEncoder(model).eval(),
        {"features": torch.zeros(2, 67, front_end.mels)},
        {"frames": ["batch", "frames", size]},
        {"features": {0: "batch", 1: "feature_frames"}},
    )
    prepend_log_mel(heard, front_end)
    save(heard, folder / ENCODER)
    states = settings.states
    given = {"tokens": torch.zeros(2, 1, dtype=torch.int64)}
    given |= {f"past_{name}": torch.zeros(2, 1, size) for name in states}
    made = dict.fromkeys(["prediction", *(f"present_{name}" for name in states)], size)
    _export_step(Predictor(model.decoder), given, made, {0: "batch"}, folder / PREDICTOR)
    given = {name: torch.zeros(2, 3, size) for name in ("frame", "prediction")}
    made = {"logits": config.vocab_size}
    made |= {"durations": len(settings.durations)} if settings.durations else {}
    _export_step(Joint(model.joint), given, made, {0: "batch", 1: "pairs"}, folder / JOINT)
    return Manifest(
        family=config.model_type,
        task="transducer",
        sample_rate=front_end.rate,
        graphs={"encoder": ENCODER, "predictor": PREDICTOR, "joint": JOINT},
        vocabulary=VOCABULARY,
        min_samples=front_end.min_samples,
        transducer=settings,
        source=source.description,
    )


def _export_step(
    module: nn.Module,
    given: dict[str, Tensor],
    made: dict[str, int],
    axes: dict[int, str],
    path: Path,
) -> None:
    """Write a graph of a step.

    Args:
        module: computes it.
        given: example inputs.
        made: outputs' names and widths, their last axis.
        axes: of inputs and outputs, that may have any length; the second else has length 1.
        path: of the file.
    """
    outputs: dict[str, Sequence[str | int]] = {
        name: ["batch", axes.get(1, 1), width] for name, width in made.items()
    }
    save(trace(module.eval(), given, outputs, dict.fromkeys(given, axes)), path)


FAMILY = Family(write_folder, reference_cases, reference_texts=reference_texts)
