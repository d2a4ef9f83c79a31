"""From a torch module to a canonical ONNX graph on disk."""

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from mqtool.exporters import passes

if TYPE_CHECKING:
    import torch

__all__ = ["OPSET", "prepend", "save", "trace"]

OPSET = 20
"""Default-domain opset of float graphs: the first with Gelu as one operator."""

_EXTERNAL_DATA_OVER = 1_500_000_000
"""Bytes of weights above which they go to `<graph>.data`: a protobuf file ends at 2 GB."""

_LIFT_CONSTANTS = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)


def trace(
    module: "torch.nn.Module",
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Sequence[str | int]],
    dynamic: Mapping[str, Mapping[int, str]],
) -> ir.Model:
    """Export a module and bring the graph into canonical form.

    Args:
        module: takes `inputs` by position; its parameters' names become the initializers' names.
        inputs: graph input name -> example tensor.
        outputs: graph output name -> its dimensions, as numbers or names.
        dynamic: graph input name -> {axis: name} of the dimensions that may change.
    """
    import torch

    axes = [dict.fromkeys(dynamic[name], torch.export.Dim.DYNAMIC) for name in inputs]
    bound = inspect.signature(module.forward).bind(*axes)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=dict(bound.arguments),
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model
    _canonicalize(model)
    for value, (name, example) in zip(model.graph.inputs, inputs.items(), strict=True):
        value.name = name
        value.metadata_props.clear()
        value.shape = ir.Shape([dynamic[name].get(i, n) for i, n in enumerate(example.shape)])
    for value, (name, shape) in zip(model.graph.outputs, outputs.items(), strict=True):
        value.name = name
        value.metadata_props.clear()
        value.shape = ir.Shape(shape)
    return model


def _canonicalize(model: ir.Model) -> None:
    passes.ConstantReshapes()(model)
    _fold_constants(model)
    ir.passes.Sequential(
        common.IdentityEliminationPass(),
        passes.GemmToMatMul(),
        common.RemoveUnusedNodesPass(),
        passes.TransposeWeights(),
        _LIFT_CONSTANTS,
        passes.ShareConstants(),
    )(model)
    _fold_constants(model)
    ir.passes.Sequential(
        _LIFT_CONSTANTS,
        passes.ShareConstants(),
        passes.DropZeroBiases(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.ClearMetadataAndDocStringPass(),
        passes.NameLayerNodes(),
        passes.StripValues(),
    )(model)


def _fold_constants(model: ir.Model) -> None:
    """Compute what depends on constants alone; parameters are neither copied nor renamed."""
    from onnxscript.optimizer import fold_constants

    def reads_parameter(node: ir.Node) -> bool:
        return any(value is not None and passes.is_parameter(value) for value in node.inputs)

    fold_constants(model, should_fold=lambda node: False if reads_parameter(node) else None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says about packages that are not needed and names it merges."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            yield
    finally:
        log.setLevel(level)


def prepend(model: ir.Model, front: str, constants: Mapping[str, np.ndarray]) -> None:
    """Put a graph written as ONNX text in front of a model's only input.

    Args:
        model: its input takes the place of the text graph's output of the same name.
        front: ONNX text; inputs that are not among `constants` become the model's inputs.
        constants: inputs of the text graph that become initializers.
    """
    graph = model.graph
    part = ir.from_proto(onnx.parser.parse_model(front))
    _LIFT_CONSTANTS(part)
    (made,) = part.graph.outputs
    (replaced,) = graph.inputs
    assert made.name == replaced.name
    inputs = list(part.graph.inputs)
    nodes = list(part.graph)
    initializers = list(part.graph.initializers.values())
    part.graph.outputs.clear()
    part.graph.inputs.clear()
    part.graph.initializers.clear()
    part.graph.remove(nodes)
    for value in inputs:
        array = constants.get(value.name or "")
        if array is not None:
            value.const_value = ir.tensor(array, name=value.name)
            initializers.append(value)
    graph.inputs.clear()
    graph.inputs.extend(value for value in inputs if value.name not in constants)
    for value in initializers:
        graph.register_initializer(value)
    ir.convenience.replace_all_uses_with(replaced, made)
    graph.insert_before(graph[0], nodes)
    ir.passes.Sequential(common.NameFixPass(), passes.ShareConstants(), passes.StripValues())(model)


def save(model: ir.Model, path: Path) -> None:
    """Write a graph; weights over 1.5 GB go to one file beside it, `<name>.data`."""
    model.producer_name = "mqtool"
    model.producer_version = None
    model.graph.name = path.stem
    tensors = [value.const_value for value in model.graph.initializers.values()]
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    ir.save(model, path, external_data=f"{path.name}.data" if size > _EXTERNAL_DATA_OVER else None)
