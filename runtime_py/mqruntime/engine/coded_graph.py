"""A graph whose weights are coded, written as onnxruntime opens it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mqruntime.engine.coded_data import CodedStream, inflate_file
from mqruntime.engine.mapped_file import unmap_pages
from mqruntime.engine.onnx_file import (
    INT8,
    PARSE_ERRORS,
    UINT8_ZERO_POINT,
    Model,
)

__all__ = ["CodedGraph"]

_CODES_SUFFIX = ".codes"


@dataclass(frozen=True)
class CodedGraph:
    """A graph and its coded data (`mqruntime.engine.coded_data`).

    Attributes:
        name: what to call it in errors.
        stored_in: likewise its coded data.
        content: the .onnx file.
        data_name: file name of its external data; it may use no other.
        stream: that inflates to it.
    """

    name: str
    stored_in: str
    content: memoryview
    data_name: str
    stream: CodedStream

    def write(self, path: Path, *, unsigned: bool = False, threads: int = 1) -> None:
        """Write the graph file, and its data beside it.

        Args:
            path: of the graph file.
            unsigned: codes that are only multiplied become uint8 with zero point 128
                (`mqruntime.engine.saturation` says why); the graph computes the same.
            threads: that inflate side by side.

        Raises:
            OSError: a file cannot be written.
            ValueError: the graph or its data is damaged.
        """
        content: bytes | memoryview = self.content
        flipped: list[slice] = []
        if unsigned:
            content, flipped = self._as_unsigned()

        def flip(data: NDArray[np.uint8]) -> None:
            for place in flipped:
                np.bitwise_xor(data[place], UINT8_ZERO_POINT, out=data[place])

        path.write_bytes(content)
        data = path.with_name(self.data_name)
        inflate_file(data, self.stream, threads=threads, change=flip)
        unmap_pages(self.stream.content)

    def _as_unsigned(self) -> tuple[bytes, list[slice]]:
        """The graph with unsigned codes, and where these lie in its data."""
        try:
            model = Model(self.content)
            places = {
                name: tensor.place
                for name, tensor in model.graph.tensors.items()
                if name.endswith(_CODES_SUFFIX)
                and tensor.data_type == INT8
                and tensor.location == self.data_name
                and model.graph.can_be_unsigned(name)
            }
            changed = model.with_unsigned(places.keys())
        except PARSE_ERRORS as error:
            raise ValueError(f"is not an ONNX graph ({error})") from None
        if any(place.stop > self.stream.coded.inflated for place in places.values()):
            raise ValueError("is of another graph: it is too short for this one")
        return changed, list(places.values())
