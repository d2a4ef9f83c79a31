"""One ONNX graph, opened with onnxruntime."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mqruntime.atomic import scratch_folder
from mqruntime.engine.coded_graph import CodedGraph
from mqruntime.engine.graph_contents import GraphContents
from mqruntime.engine.mapped_file import map_file
from mqruntime.engine.onnx_file import PARSE_ERRORS
from mqruntime.engine.planes import unpack_model
from mqruntime.engine.saturation import products_saturate
from mqruntime.errors import ModelError

__all__ = ["Graph", "Session", "StoredGraph"]


class Graph(Protocol):
    """Anything that runs a graph: a `Session`, or a wrapper that watches or adds outputs."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once; outputs by name. The arrays fed in are not changed."""
        ...


_SAVED = "session.optimized_model_external_initializers_"
_NO_SATURATION = "session.x64quantprecision"
"""Where products saturate (`mqruntime.engine.saturation`), asks onnxruntime to make weights uint8
that `unpack_model` did not; elsewhere it changes nothing."""
_NO_SATURATION_SINCE = (1, 30)
"""Before, it does not know MatMulInteger, and 1.28 aborts on some."""

_HAND_OVER = "add_external_initializers_from_files_in_memory"


@dataclass(frozen=True)
class StoredGraph:
    """A graph that is not a file of its own.

    Attributes:
        name: what to call it in errors.
        content: the .onnx file.
        data: its external data by file name; it may use no other.
    """

    name: str
    content: memoryview
    data: Mapping[str, memoryview]

    def write(self, path: Path) -> None:
        """Write the graph file, and its data beside it.

        Raises:
            OSError: a file cannot be written.
        """
        path.write_bytes(self.content)
        for name, content in self.data.items():
            path.with_name(name).write_bytes(content)


class Session:
    """An onnxruntime session on the CPU.

    Neither inputs nor outputs are copied: onnxruntime reads the fed arrays in place, and the
    arrays returned by `run` are views of its own buffers, which live as long as the arrays. A
    K/V cache can so be fed back step after step at the cost of the graph's own Concat.

    Args:
        graph: the .onnx file, whose external data must lie beside it, or a coded or stored graph.
        threads: threads inside an operator; 0 lets onnxruntime choose.
        optimize: graph optimization on (all levels) or off.
        unpack: decode packed weights in little memory (`mqruntime.engine.planes`) and not by the
            nodes of the graph. Results are the same; without `optimize` it is always the nodes.
        config: session configuration entries, such as `session.force_spinning_stop`.
        operators: which its nodes may be, as `GraphContents.operators`; None for any.
        save_to: also write the graph as onnxruntime will run it, its weights beside it with
            `.data` after its name.

    Raises:
        ModelError: the file is missing, truncated, corrupt, or uses what onnxruntime lacks or
            `operators` does not list.
    """

    def __init__(
        self,
        graph: Path | CodedGraph | StoredGraph,
        *,
        threads: int = 0,
        optimize: bool = True,
        unpack: bool = True,
        config: Mapping[str, str] | None = None,
        operators: Collection[str] | None = None,
        save_to: Path | None = None,
    ) -> None:
        options = _options(threads, optimize, config or {}, save_to)
        self.name = str(graph) if isinstance(graph, Path) else graph.name
        with _as_opened(graph, threads, operators) as opened:
            is_packed = unpack and optimize and not isinstance(graph, CodedGraph)
            self._session: Any = _create(opened, self.name, options, unpack=is_packed)
        self.inputs: list[str] = [value.name for value in self._session.get_inputs()]
        self.outputs: list[str] = [value.name for value in self._session.get_outputs()]

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        options: Any = None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            feeds: one array for every graph input.
            options: onnxruntime's RunOptions.
            outputs: which are wanted; None for all.

        Returns:
            Graph outputs by name.

        Raises:
            ModelError: the session is closed, an input does not fit, or a node failed.
        """
        if self._session is None:
            raise ModelError(f"{self.name}: is closed; open it again")
        wanted = self.outputs if outputs is None else list(outputs)
        try:
            values = self._session.run(wanted, dict(feeds), options)
        except Exception as error:  # as above
            raise ModelError(f"{self.name}: running it failed ({_first_line(error)})") from error
        return dict(zip(wanted, values, strict=True))

    def close(self) -> None:
        """Free the graph's memory; `run` fails from now on."""
        self._session = None


def _options(threads: int, optimize: bool, config: Mapping[str, str], save_to: Path | None) -> Any:
    """Onnxruntime's SessionOptions; arguments as of `Session`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters arrives as an exception
    options.intra_op_num_threads = threads
    # It would plan memory for every shape seen, and reserve it beside what the first run has
    # left: for a decoder, whose cache grows, that is a plan a step.
    options.enable_mem_pattern = False
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    entries = dict(config)
    if _release(onnxruntime.__version__) >= _NO_SATURATION_SINCE:
        entries.setdefault(_NO_SATURATION, "1")
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
        entries[f"{_SAVED}file_name"] = f"{save_to.name}.data"
        entries[f"{_SAVED}min_size_in_bytes"] = "1024"
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def _create(graph: Path | StoredGraph, name: str, options: Any, *, unpack: bool) -> Any:
    """Onnxruntime's InferenceSession of a graph that is called `name` in errors."""
    import onnxruntime

    stored = graph if isinstance(graph, StoredGraph) else _mapped(graph)
    # Older releases cannot be handed external data: then it has to be a file, and stay packed.
    data = stored.data if _can_be_handed_data() else {}
    unpacked = None
    if unpack:
        unpacked = unpack_model(stored.content, data, unsigned=products_saturate())
    model: str | bytes = stored.name
    if unpacked is not None:
        model = unpacked.skeleton
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in unpacked.codes.values()]
        options.add_external_initializers(list(unpacked.codes), values)
    elif isinstance(graph, StoredGraph):
        model = bytes(stored.content)
    if data and isinstance(model, bytes):
        lengths = [len(content) for content in data.values()]
        getattr(options, _HAND_OVER)(list(data), list(data.values()), lengths)
    # What was read of a mapped file counts as memory of the process for as long as it is open; what
    # is handed over (`data`) has to stay until the session is made.
    del stored
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(
            f"{name}: onnxruntime {onnxruntime.__version__} cannot open it "
            f"({_first_line(error)}); export or pack the model again"
        ) from error


def _can_be_handed_data() -> bool:
    import onnxruntime

    return hasattr(onnxruntime.SessionOptions, _HAND_OVER)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _mapped(path: Path) -> StoredGraph:
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such graph; export or pack the model again")
    data = path.with_name(path.name + ".data")
    return StoredGraph(
        str(path), map_file(path), {data.name: map_file(data)} if data.is_file() else {}
    )


@contextmanager
def _as_opened(
    graph: Path | CodedGraph | StoredGraph, threads: int, operators: Collection[str] | None
) -> Iterator[Path | StoredGraph]:
    """What onnxruntime opens.

    The weights of a coded graph are inflated to a temporary file, which is there for as long as it
    takes to open it: onnxruntime maps files, and copies what it is handed in memory. Releases that
    cannot be handed external data would look for it in the working directory: it becomes a file.
    """
    if isinstance(graph, Path):
        stored = _mapped(graph)
        _check_contents(stored.name, stored.content, [f"{graph.name}.data"], operators)
        del stored
        yield graph
        return
    names = [graph.data_name] if isinstance(graph, CodedGraph) else list(graph.data)
    _check_contents(graph.name, graph.content, names, operators)
    if isinstance(graph, StoredGraph) and (not graph.data or _can_be_handed_data()):
        yield graph
        return
    stored_in = graph.stored_in if isinstance(graph, CodedGraph) else graph.name
    with scratch_folder() as folder:
        path = folder / "graph.onnx"
        try:
            if isinstance(graph, CodedGraph):
                workers = threads or os.cpu_count() or 1
                graph.write(path, unsigned=products_saturate(), threads=workers)
            else:
                graph.write(path)
        except ValueError as error:
            raise ModelError(f"{stored_in}: {error}; pack again") from None
        except OSError as error:
            raise ModelError(
                f"{stored_in}: cannot be inflated in {folder} ({error.strerror or error}); "
                "make room there, or set TMPDIR"
            ) from error
        yield path


def _check_contents(
    name: str, content: memoryview, files: Collection[str], operators: Collection[str] | None
) -> None:
    try:
        found = GraphContents.of(content)
    except PARSE_ERRORS as error:
        raise ModelError(f"{name}: is not an ONNX graph ({error}); pack again") from None
    if outside := sorted(found.files.difference(files)):
        raise ModelError(
            f"{name}: has data in {outside[0]!r}, which is not its own file; do not use it"
        )
    if operators is not None and (foreign := sorted(found.operators.difference(operators))):
        raise ModelError(
            f"{name}: has the operator {foreign[0]!r}, which mqtool never writes; if "
            "you trust the model, allow any operator (--any-operator, or operators=None)"
        )
