"""Who the peers are: how each is made, what runs it, for which models."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers.environments import python_of

__all__ = ["FLOAT", "PEERS", "Peer", "Places", "make", "ours"]

HERE = Path(__file__).resolve().parent
MQRUNTIME = "engine_mqruntime:Engine"


@dataclass(frozen=True)
class Peer:
    """A way to store and run a Whisper.

    Attributes:
        name: in tables and file names.
        family: the project it comes from.
        engine: MODULE:CLASS for `worker.py`.
        environment: of `environments.ENVIRONMENTS`; None is the running Python.
        command: `make_*.py` and its arguments; names in braces are fields of `Places`.
        models: which models it exists for; empty for all.
    """

    name: str
    family: str
    engine: str
    command: Sequence[str] = ()
    environment: str | None = None
    models: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        work: folder for environments, made models and results.
        weights: folder with CTranslate2 folders of the models.
        manifest: CSV of the clips.
    """

    work: Path
    weights: Path
    manifest: Path

    def float_model(self, model: str) -> Path:
        """Folder of the float graphs."""
        return self.work / "float" / model

    def folder(self, peer: Peer, model: str) -> Path:
        """Folder of a peer's files."""
        return (
            self.float_model(model)
            if peer is FLOAT
            else self.work / "models" / f"{model}-{peer.name}"
        )

    def python(self, environment: str | None) -> Path:
        """Interpreter of an environment."""
        return python_of(environment, self.work / "environments")


FLOAT = Peer("float", "float", MQRUNTIME)


def _onnxruntime(method: str) -> Peer:
    command = ("make_onnxruntime.py", "{float}", "{target}", method, "--manifest", "{manifest}")
    return Peer(f"onnxruntime-{method}", "onnxruntime", MQRUNTIME, command)


def _whispercpp(kind: str, models: Sequence[str] = ()) -> Peer:
    command = ("make_ggml.py", "{weights}", "{target}", kind, "{ggml}")
    engine = "engine_whispercpp:Engine"
    return Peer(f"whisper.cpp-{kind}", "whisper.cpp", engine, command, "native", models)


def _torchao(bits: str) -> Peer:
    command = ("make_torchao.py", "{weights}", "{float}", "{target}", bits)
    engine = "engine_transformers:TorchaoEngine"
    return Peer(f"torchao-{bits}", "torchao", engine, command, "torchao")


PEERS = [
    FLOAT,
    *[_whispercpp(kind) for kind in ("q5_0", "q4_0", "q8_0", "q5_1", "q4_1", "f16")],
    # Blocks of 256 weights: tiny.en's rows of 384 do not divide into them.
    *[_whispercpp(kind, ["whisper-base"]) for kind in ("q5_K", "q4_K", "q3_K", "q2_K")],
    *[
        _onnxruntime(method)
        for method in ("rtn", "dynamic", "dynamic-all", "hqq", "gptq", "k-quant", "static")
    ],
    Peer(
        "ctranslate2-int8",
        "ctranslate2",
        "engine_ctranslate2:Engine",
        ("make_ctranslate2.py", "{weights}", "{target}", "int8"),
        "native",
    ),
    Peer(
        "optimum-int8",
        "optimum",
        "engine_transformers:OptimumEngine",
        ("make_optimum.py", "{weights}", "{float}", "{target}"),
        "optimum",
    ),
    _torchao("int8"),
    _torchao("int4"),
]


def ours(folder: Path) -> Peer:
    """A packed folder of mqtool's, as a peer."""
    return Peer(f"mqtool-{folder.name}", "mqtool", MQRUNTIME)


def make(peer: Peer, model: str, places: Places) -> list[str]:
    """The command that makes a peer's folder; empty for the float model."""
    if not peer.command:
        return []
    names = {
        "weights": places.weights / model,
        "float": places.float_model(model),
        "target": places.folder(peer, model),
        "manifest": places.manifest,
        "ggml": _ggml_library(places) if "{ggml}" in peer.command else "",
    }
    script, *arguments = (part.format(**names) for part in peer.command)
    # onnxruntime's and ggml's quantizers run here; the others in the peer's own environment.
    own = peer.family not in ("onnxruntime", "whisper.cpp")
    python = str(places.python(peer.environment)) if own else sys.executable
    return [python, str(HERE / script), *arguments]


def _ggml_library(places: Places) -> Path:
    packages = places.python("native").parents[1] / "lib"
    return next(packages.glob("python*/site-packages/pywhispercpp.libs/libggml-base-*"))
