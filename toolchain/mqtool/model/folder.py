"""A float model folder opened for planning and packing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqruntime.bundle.speech_task import asked_to
from mqruntime.options import SpeechTask
from mqruntime.tasks.registry import task_of
from mqruntime.tasks.task import Task
from mqruntime.vocabulary import Vocabulary
from mqtool.errors import ModelError
from mqtool.model.equalize import Factors, equalize
from mqtool.model.graph_files import check_graph, data_path, load_graph, sha256_files
from mqtool.model.layers import Layer, find_layers
from mqtool.model.sinusoids import formulate_sinusoids
from mqtool.model.token_table import KeptTokens, keep_languages

__all__ = ["ModelFolder", "layer_weight", "set_layer_weight"]


@dataclass(frozen=True)
class ModelFolder:
    """A folder made by `mqtool export`.

    Attributes:
        path: of the folder.
        manifest: its model.json.
        factors: by which the channels of its graphs are equalized when they are loaded
            (`mqtool.model.equalize`); the model computes the same with or without.
        formulas: whether positions that are sinusoids are computed and no layer
            (`mqtool.model.sinusoids`); likewise, but for the rounding of a checkpoint.
        speech_task: what it is asked to make of speech, and not what model.json says; None for
            that.
        kept: tokens that are left of its table; None for all.
    """

    path: Path
    manifest: Manifest
    factors: Factors | None = None
    formulas: bool = False
    speech_task: SpeechTask | None = None
    kept: KeptTokens | None = None

    @classmethod
    def open(cls, path: Path) -> "ModelFolder":
        """Read the manifest and check that the graphs can be read and hold layers.

        Raises:
            ManifestError: the manifest is missing or malformed.
            ModelError: a graph is unreadable, or the model is packed already.
        """
        folder = cls(Path(path), Manifest.read(Path(path)))
        if folder.manifest.packed is not None:
            raise ModelError(f"{path}: is packed already; give the float model it was made from")
        for name in folder.manifest.graphs.values():
            check_graph(folder.path / name)
        if not folder.layers:
            raise ModelError(f"{path}: its graphs hold no Linear, Conv or embedding; export again")
        return folder

    def asked_to(self, task: SpeechTask | None) -> "ModelFolder":
        """The same model with another task by default; itself for None and its own.

        Raises:
            ModelError: it has no such task.
        """
        manifest = asked_to(self.manifest, task, self.path)
        if manifest is self.manifest:
            return self
        return replace(self, manifest=manifest, speech_task=task)

    def keeping(self, languages: Sequence[str]) -> "ModelFolder":
        """The same model with the tokens of some languages (ISO codes); itself for none.

        Raises:
            ModelError: it does not know them.
            OptionError: their scripts are not known.
        """
        if not languages:
            return self
        kept = keep_languages(self.manifest, self.vocabulary, languages)
        return replace(self, manifest=kept.manifest, kept=kept)

    @property
    def vocabulary(self) -> Vocabulary:
        """Its tokens; none of a model without any."""
        name = self.manifest.vocabulary
        if name is None:
            return Vocabulary([])
        if self.kept is not None:
            return Vocabulary.parse(self.kept.vocabulary, name)
        return Vocabulary.read(self.path / name)

    @property
    def copied_files(self) -> dict[str, bytes]:
        """Files that a packed folder has as they are: the vocabulary, of a model that has one."""
        name = self.manifest.vocabulary
        if name is None:
            return {}
        return {name: self.kept.vocabulary if self.kept else (self.path / name).read_bytes()}

    @cached_property
    def task(self) -> Task:
        """What the graphs are given and what they answer; it knows tokens and no text."""
        return task_of(self.manifest)

    def load(self, role: str) -> ir.Model:
        """A fresh copy of one graph."""
        model = self._unequalized(role)
        if self.factors is not None:
            equalize(model.graph, find_layers(model.graph, role), self.factors)
        return model

    def equalized(self, factors: Factors) -> "ModelFolder":
        """The same model with its channels equalized."""
        return replace(self, factors=factors)

    def with_formulas(self) -> "ModelFolder":
        """The same model with positions that are sinusoids as formulas."""
        return replace(self, formulas=True)

    def _unequalized(self, role: str) -> ir.Model:
        model = load_graph(self.path / self.manifest.graphs[role])
        if self.kept is not None:
            self.kept.prune(model.graph)
        if self.formulas:
            formulate_sinusoids(model.graph, find_layers(model.graph, role))
        return model

    def is_external(self, role: str) -> bool:
        """Whether the graph keeps its weights in a separate file; its packed form does the same."""
        return data_path(self.path / self.manifest.graphs[role]).is_file()

    @cached_property
    def layers(self) -> list[Layer]:
        """All layers, graph by graph, in the order of their first use."""
        return [
            layer
            for role in self.manifest.graphs
            for layer in find_layers(self._unequalized(role).graph, role)
        ]

    def layers_of(self, role: str) -> "list[Layer]":
        """Layers of one graph."""
        return [layer for layer in self.layers if layer.graph == role]

    @cached_property
    def sha256(self) -> str:
        """Identity of the model: a hash over every file the manifest names and the manifest."""
        names = [MANIFEST_NAME]
        for graph in self.manifest.graphs.values():
            names += [graph, data_path(Path(graph)).name]
        if self.manifest.vocabulary is not None:
            names.append(self.manifest.vocabulary)
        return sha256_files(path for name in names if (path := self.path / name).is_file())

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


def layer_weight(model: ir.Model, layer: Layer) -> NDArray[np.float32]:
    """The float weight of a layer in a loaded graph, float32 [rows, columns].

    Raises:
        ModelError: it holds NaN or infinity.
    """
    tensor = model.graph.initializers[layer.initializer].const_value
    assert tensor is not None
    weight: NDArray[np.float32] = layer.to_rows(tensor.numpy())
    if not np.isfinite(weight).all():
        raise ModelError(f"layer {layer.name!r} holds NaN or infinity; export the model again")
    return weight


def set_layer_weight(model: ir.Model, layer: Layer, weight: NDArray[np.float32]) -> None:
    """Replace the weight of a layer in a loaded graph; float32 [rows, columns]."""
    tensor = ir.Tensor(layer.to_stored(weight), name=layer.initializer)
    model.graph.initializers[layer.initializer].const_value = tensor
