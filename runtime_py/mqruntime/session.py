"""One ONNX graph, opened with onnxruntime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mqruntime.errors import ModelError
from mqruntime.unpack import has_external_data, map_file, unpack_model

__all__ = ["Graph", "Session"]


class Graph(Protocol):
    """Anything that runs a graph: a `Session`, or a wrapper that watches or adds outputs."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once; outputs by name. The arrays fed in are not changed."""
        ...


class Session:
    """An onnxruntime session on the CPU.

    Neither inputs nor outputs are copied: onnxruntime reads the fed arrays in place, and the
    arrays returned by `run` are views of its own buffers, which live as long as the arrays. A
    K/V cache can so be fed back step after step at the cost of the graph's own Concat.

    Args:
        path: the .onnx file; its external data must lie beside it.
        content: the graph itself, if it is not a file of its own; `path` then only names it in
            errors, and external data is refused.
        threads: threads inside an operator; 0 lets onnxruntime choose.
        optimize: graph optimization on (all levels) or off.
        unpack: decode packed weights in little memory (`mqruntime.unpack`) and not by the nodes of
            the graph. Results are the same; without `optimize` it is always the nodes.
        config: session configuration entries, such as `session.force_spinning_stop`.

    Raises:
        ModelError: the file is missing, truncated, corrupt, or uses what onnxruntime lacks.
    """

    def __init__(
        self,
        path: Path,
        *,
        content: memoryview | None = None,
        threads: int = 0,
        optimize: bool = True,
        unpack: bool = True,
        config: Mapping[str, str] | None = None,
    ) -> None:
        import onnxruntime

        self.path = Path(path)
        if content is None and not self.path.is_file():
            raise ModelError(f"{path}: no such graph; export or pack the model again")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what matters arrives as an exception
        options.intra_op_num_threads = threads
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
        )
        for key, value in (config or {}).items():
            options.add_session_config_entry(key, value)
        model: str | bytes = str(self.path)
        if content is not None:
            if has_external_data(content):
                raise ModelError(f"{path}: its data is in another file; package the model again")
            model = bytes(content)
        unpacked = None
        if unpack and optimize:
            unpacked = unpack_model(map_file(self.path) if content is None else content)
        if unpacked is not None:
            model = unpacked.skeleton
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in unpacked.codes.values()]
            options.add_external_initializers(list(unpacked.codes), values)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelError(
                f"{path}: onnxruntime {onnxruntime.__version__} cannot open it "
                f"({_first_line(error)}); export or pack the model again"
            ) from error
        self.inputs: list[str] = [value.name for value in self._session.get_inputs()]
        self.outputs: list[str] = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            feeds: one array for every graph input.

        Returns:
            Every graph output by name.

        Raises:
            ModelError: the session is closed, an input does not fit, or a node failed.
        """
        if self._session is None:
            raise ModelError(f"{self.path}: is closed; open it again")
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:  # as above
            raise ModelError(f"{self.path}: running it failed ({_first_line(error)})") from error
        return dict(zip(self.outputs, values, strict=True))

    def close(self) -> None:
        """Free the graph's memory; `run` fails from now on."""
        self._session = None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
