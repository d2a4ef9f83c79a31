"""What rounding a tied token table does in each of its uses, by how much its lookup is weighed.

The table is rounded with the moments of what the output head multiplies, as `pack` does, for
several values of `mqtool.quantization.rounding.LOOKUP_WEIGHT`, and by itself; all else stays float.
Half of a manifest's `calib` rows give the moments, the other half are heard: mean KL divergence
from the float model's output, nats a token.

    python examples/benchmarks/tied_table.py MODEL/ --manifest M.csv --language ru -o OUT.json
"""

import argparse
import json
import sys
from datetime import date
from pathlib import Path

import numpy as np
import onnx_ir as ir

from mqtool.context import RunContext
from mqtool.model.folder import ModelFolder, layer_weight
from mqtool.model.layers import Layer
from mqtool.observe.moments import capture_moments
from mqtool.observe.runs import open_graphs
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.quantization.rounding import LayerInput, quantize_weight
from mqtool.recordings.clips import find_clips


class Uses:
    """Runs the model with other tables in either use."""

    def __init__(self, folder: ModelFolder, layer: Layer, clips: list) -> None:
        self._folder, self._layer = folder, layer
        self._graphs = open_graphs(folder, lambda model, role: None)
        self._float = ReferenceOutputs(folder, clips, self._graphs)

    def divergence(self, looked_up: np.ndarray, head: np.ndarray) -> float:
        """With one table where tokens are looked up and one as output head."""

        def edit(model: ir.Model, role: str) -> None:
            table = model.graph.initializers[self._layer.initializer]
            other = ir.Value(
                name="head",
                shape=table.shape,
                type=table.type,
                const_value=ir.Tensor(head, name="head"),
            )
            model.graph.register_initializer(other)
            for use in list(table.uses()):
                if use.node.op_type == "Transpose":
                    use.node.replace_input_with(use.idx, other)
            table.const_value = ir.Tensor(looked_up, name=self._layer.initializer)

        role = self._layer.graph
        changed = self._graphs | open_graphs(self._folder, edit, roles=[role])
        return self._float.divergence(changed, rerun_encoder=False)


def main() -> None:
    """Round the table in several ways and write what each does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--language")
    parser.add_argument("--group")
    parser.add_argument("--bits", default="4,3")
    parser.add_argument("--weights", default="10,3,1,0.3")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    clips = find_clips(
        [options.manifest], split="calib", group=options.group, language=options.language
    )
    tables = [layer for layer in folder.layers if layer.op == "embedding"]
    layer = max(tables, key=lambda layer: layer.params)
    weight = layer_weight(folder.load(layer.graph), layer)
    moments = capture_moments(folder, clips[::2], RunContext(threads=1))[layer.name]
    uses = Uses(folder, layer, clips[1::2])
    rows = []
    for bits in map(int, options.bits.split(",")):
        for lookup_weight in [None, *map(float, options.weights.split(","))]:
            if lookup_weight is None:
                rounded = quantize_weight(layer, weight, bits, 0, "grouped")
            else:
                known = LayerInput(moments.damped(lookup_weight))
                rounded = quantize_weight(layer, weight, bits, 0, "compensated", known)
            table = rounded.dequantize()
            row = {
                "bits": bits,
                "lookup_weight": lookup_weight,
                "both": uses.divergence(table, table),
                "looked_up": uses.divergence(table, weight),
                "head": uses.divergence(weight, table),
            }
            rows.append(row)
            print(row, flush=True)
    command = "python " + " ".join(sys.argv)
    result = {"command": command, "date": date.today().isoformat(), "rows": rows}
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
