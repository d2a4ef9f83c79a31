"""manifest.json of a bundle (`mqruntime.bundle.file`).

UTF-8 JSON, sorted keys, one line. Fields (all are there; types: `BundleManifest`):

    format              1, or 2 where weights are coded
    model               the object that the entry model.json holds (`mqruntime.bundle.manifest`):
                        family, task, languages, sample rate, prompt and suppressed tokens,
                        timestamps, decoding limits, vocabulary, options of packing, source and its
                        licence
    graphs              role -> {"opset", "ir_version", "inputs", "outputs"}; inputs and outputs
                        are lists of {"name", "dtype", "shape"}, a shape holds integers and, for
                        what may vary, names
    files               [{"name", "length", "sha256"}] of every entry but manifest.json and
                        manifest.sig. In format 2 {"name", "length", "sha256", "stored"}, of what
                        an entry inflates to; `stored` is {"length", "sha256"} of its data where
                        it is coded, else null
    model_bytes         length of the model folder's files together, which the budget is about:
                        all of `files` but golden/
    budget_bytes        what was asked for; null for a float model
    plan_sha256         the plan it was packed by; null for a float model
    calibration_sha256  the recordings that plan was made from; null if none were used or the
                        bundle was made without it
    golden              golden/golden.json, or null
    tool                what wrote the bundle, such as "mqtool 0.1.0"
"""

from dataclasses import asdict, dataclass
from typing import Self

from mqruntime.bundle.fields import parse_json, read_fields
from mqruntime.bundle.manifest import CODED_FORMAT, FORMAT, Manifest, canonical_json

__all__ = [
    "BUNDLE_FORMAT",
    "CODED_BUNDLE_FORMAT",
    "BundleManifest",
    "BundledFile",
    "GraphInterface",
    "StoredData",
    "ValueInterface",
]

BUNDLE_FORMAT = 1
CODED_BUNDLE_FORMAT = 2
_MODEL_FORMATS = {BUNDLE_FORMAT: FORMAT, CODED_BUNDLE_FORMAT: CODED_FORMAT}
"""Format of the model that a bundle of each format holds."""


@dataclass(frozen=True)
class StoredData:
    """Length in bytes and SHA-256 in lowercase hexadecimal of an entry's data."""

    length: int
    sha256: str


@dataclass(frozen=True)
class BundledFile:
    """An entry: its name, length in bytes and SHA-256 in lowercase hexadecimal.

    Attributes:
        stored: of its data, where that is coded.
    """

    name: str
    length: int
    sha256: str
    stored: StoredData | None = None

    @property
    def data(self) -> StoredData:
        """What is in the bundle."""
        return self.stored or StoredData(self.length, self.sha256)


@dataclass(frozen=True)
class ValueInterface:
    """An input or output of a graph.

    Attributes:
        dtype: as ONNX spells it in lower case: float, int64, ...
        shape: lengths; names stand for lengths that may vary.
    """

    name: str
    dtype: str
    shape: list[int | str]


@dataclass(frozen=True)
class GraphInterface:
    """What a graph takes and gives, and the versions a runtime must know to read it."""

    opset: int
    ir_version: int
    inputs: list[ValueInterface]
    outputs: list[ValueInterface]


@dataclass(frozen=True)
class BundleManifest:
    """The contents of manifest.json; fields are described at the top of this file."""

    model: Manifest
    graphs: dict[str, GraphInterface]
    files: list[BundledFile]
    model_bytes: int
    budget_bytes: int | None
    plan_sha256: str | None
    calibration_sha256: str | None
    golden: str | None
    tool: str
    format: int = BUNDLE_FORMAT

    def to_bytes(self) -> bytes:
        """The entry's bytes; the same manifest always gives the same bytes."""
        value = {**asdict(self), "model": self.model.to_json()}
        if self.format == BUNDLE_FORMAT:
            for file in value["files"]:
                del file["stored"]
        return canonical_json(value)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read and check the entry's bytes.

        Raises:
            ValueError: not JSON, another format, a field that is missing, unknown or wrong, or
                the bytes are not those of `to_bytes`.
        """
        fields = parse_json(content)
        found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
        if found not in [*_MODEL_FORMATS]:  # a list is no key
            raise ValueError(
                f"its format is {found!r}, this version of mqruntime reads "
                f"{' and '.join(map(str, _MODEL_FORMATS))}, and a newer one may read it"
            )
        manifest = read_fields(cls, fields)
        manifest.model.check()
        if manifest.model.format != _MODEL_FORMATS[found]:
            raise ValueError(f"its format is {found}, its model's {manifest.model.format}")
        if manifest.to_bytes() != content:
            raise ValueError("it is not spelled as mqtool writes it")
        return manifest
