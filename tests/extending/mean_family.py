"""A family: two Linears on frames of PCM, their mean, two labels."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mqruntime.bundle.manifest import Manifest
from mqtool.exporters.families.family import Family
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parity import Case, probe

FRAME = 64


class Mean(nn.Module):
    """PCM [batch, samples] to logits [batch, 2]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(FRAME, 256)
        self.narrow = nn.Linear(256, 2)

    def forward(self, pcm: torch.Tensor) -> torch.Tensor:
        frames = pcm.unfold(1, FRAME, FRAME)
        return self.narrow(torch.relu(self.wide(frames))).mean(1)


def _write(model: Any, source: Any, folder: Path) -> Manifest:
    graph = trace(
        model,
        {"pcm": torch.zeros(2, 4 * FRAME)},
        {"logits": ["batch", 2]},
        {"pcm": {0: "batch", 1: "samples"}},
    )
    save(graph, folder / "model.onnx")
    return Manifest(
        family="mean",
        task="keywords",
        sample_rate=16000,
        graphs={"model": "model.onnx"},
        labels=["low", "high"],
        min_samples=FRAME,
        source=source.description,
    )


def _cases(model: Any, source: Any) -> list[Case]:
    cases = []
    for samples in (FRAME, 10 * FRAME + 3):
        pcm = probe(2, samples)
        with torch.no_grad():
            cases.append(Case(pcm, None, model(torch.from_numpy(pcm)).numpy()))
    return cases


FAMILY = Family(_write, _cases, load=lambda folder: Mean().eval())
