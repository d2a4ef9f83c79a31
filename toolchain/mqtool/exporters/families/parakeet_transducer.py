"""Parakeet with a prediction network, TDT and RNN-T, as three graphs.

PCM to what the joint network hears in every frame; a token and states to a prediction and states;
both to logits. The prediction network is an LSTM (arXiv 1308.0850, section 2, without peepholes),
written out, so that its weights are Linears as all others. It has a graph of its own because it
runs after tokens that are text only, which are few among all steps.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mqruntime.bundle.manifest import Manifest
from mqtool.exporters.families.family import Family
from mqtool.exporters.families.fast_conformer import Encoder
from mqtool.exporters.families.transducer_reference import reference_cases, reference_texts
from mqtool.exporters.families.transducer_settings import transducer_settings
from mqtool.exporters.families.two_graphs import ENCODER
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parakeet_frontend import prepend_log_mel, read_front_end
from mqtool.exporters.sources.find import Source
from mqtool.exporters.tokenizer import VOCABULARY, read_vocabulary, write_vocabulary

__all__ = ["FAMILY", "Heard", "Joint", "Predictor", "write_folder"]

PREDICTOR = "predictor.onnx"
JOINT = "joint.onnx"


class Heard(nn.Module):
    """Features to what the joint network takes of each frame."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = Encoder(model.encoder)
        self.encoder_projector = model.encoder_projector

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, mels] to [batch, steps, size]."""
        heard: Tensor = self.encoder_projector(self.encoder(features))
        return heard


class Cell(nn.Module):
    """One layer of an LSTM, one step: gates for input, forgetting, candidate and output."""

    def __init__(self, lstm: nn.LSTM, layer: int) -> None:
        super().__init__()
        for name, kind in (("input", "ih"), ("hidden", "hh")):
            weight = getattr(lstm, f"weight_{kind}_l{layer}")
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight, linear.bias = weight, getattr(lstm, f"bias_{kind}_l{layer}")
            setattr(self, name, linear)

    def forward(self, given: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """All [batch, size]; the new hidden and cell state."""
        gates = self.input(given) + self.hidden(hidden)
        entering, kept, candidate, leaving = gates.chunk(4, -1)
        cell = torch.sigmoid(kept) * cell + torch.sigmoid(entering) * torch.tanh(candidate)
        return torch.sigmoid(leaving) * torch.tanh(cell), cell


class Predictor(nn.Module):
    """A token to what it predicts after those before it."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.embedding, self.decoder_projector = decoder.embedding, decoder.decoder_projector
        layers = range(decoder.lstm.num_layers)
        self.lstm = nn.ModuleList(Cell(decoder.lstm, layer) for layer in layers)

    def forward(self, tokens: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Predict.

        Args:
            tokens: int64 [batch].
            states: of each layer hidden and cell state, [batch, size].

        Returns:
            Prediction [batch, size], and the new states.
        """
        given, new = self.embedding(tokens), []
        for place, layer in enumerate(self.lstm):
            given, cell = layer(given, *states[2 * place : 2 * place + 2])
            new += [given, cell]
        return self.decoder_projector(given), *new


class Joint(nn.Module):
    """What was heard and what was predicted to logits of tokens, and of durations if any."""

    def __init__(self, joint: Any) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, frame: Tensor, prediction: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Both [batch, size] to [batch, vocabulary] and [batch, durations]."""
        logits: Tensor = self.joint.head(self.joint.activation(frame + prediction))
        tokens = self.joint.vocab_size
        if logits.shape[-1] == tokens:
            return logits
        return logits.split([tokens, logits.shape[-1] - tokens], -1)


def write_folder(model: Any, source: Source, folder: Path) -> Manifest:
    """Write the graphs and the token table; return the manifest that describes them.

    Raises:
        ExportError: the tokenizer or the feature extractor's settings are missing or not known.
        OptionError: a language is asked for.
    """
    config = model.config
    front_end = read_front_end(source.folder, config.encoder_config.num_mel_bins)
    tokens = read_vocabulary(source.folder, config.vocab_size, multiple=None)
    settings = transducer_settings(model, tokens, source, front_end)
    write_vocabulary(tokens, folder / VOCABULARY)
    size = settings.size
    heard = trace(
        Heard(model).eval(),
        {"features": torch.zeros(2, 67, front_end.mels)},
        {"frames": ["batch", "frames", size]},
        {"features": {0: "batch", 1: "feature_frames"}},
    )
    prepend_log_mel(heard, front_end)
    save(heard, folder / ENCODER)
    states = [f"{kind}_{i}" for i in range(settings.layers) for kind in ("hidden", "cell")]
    inputs = {"tokens": torch.zeros(2, dtype=torch.int64)}
    inputs |= {f"past_{name}": torch.zeros(2, size) for name in states}
    made = dict.fromkeys(["prediction", *(f"present_{name}" for name in states)], ["batch", size])
    dynamic = {name: {0: "batch"} for name in inputs}
    save(trace(Predictor(model.decoder).eval(), inputs, made, dynamic), folder / PREDICTOR)
    inputs = {name: torch.zeros(2, size) for name in ("frame", "prediction")}
    logits = {"logits": ["batch", config.vocab_size]}
    if settings.durations:
        logits |= {"durations": ["batch", len(settings.durations)]}
    dynamic = {name: {0: "batch"} for name in inputs}
    save(trace(Joint(model.joint).eval(), inputs, logits, dynamic), folder / JOINT)
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


FAMILY = Family(write_folder, reference_cases, reference_texts=reference_texts)
