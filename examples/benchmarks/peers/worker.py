"""One engine in a process of its own, asked over a pipe.

    python worker.py ENGINE FOLDER THREADS

writes one line of JSON when the engine is open and one in answer to every line it reads:

    {"do": "transcribe", "pcm": "clip.npy", "language": "en"}  ->  {"text": ..., "seconds": ...}
    {"do": "encode", "pcm": "clip.npy"}                        ->  {"seconds": ...}
    {"do": "decode", "tokens": 36}                             ->  {"seconds": ...}
    {"do": "memory"}                                           ->  {"peak_rss": ...}

`seconds` is the engine's own time, without reading the clip. ENGINE is MODULE:CLASS of this folder.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def peak_rss() -> int:
    """Largest resident set of this process so far, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def answer(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks for."""
    if request["do"] == "memory":
        return {"peak_rss": peak_rss()}
    pcm = np.load(request["pcm"]) if "pcm" in request else None
    start = time.perf_counter()
    result = {}
    if request["do"] == "transcribe":
        result["text"] = engine.transcribe(pcm, request["language"])
    elif request["do"] == "encode":
        engine.encode(pcm)
    else:
        engine.decode(request["tokens"])
    return result | {"seconds": time.perf_counter() - start}


def serve(requests: TextIO, answers: TextIO, engine: str, folder: Path, threads: int) -> None:
    """Open the engine, then answer until the input ends."""
    module, _, name = engine.partition(":")
    start = time.perf_counter()
    factory = getattr(importlib.import_module(f"peers.{module}"), name)
    imported, before = time.perf_counter(), peak_rss()
    opened = factory(folder, threads)
    ready = {
        "import_seconds": imported - start,
        "load_seconds": time.perf_counter() - imported,
        "imported_rss": before,
        "loaded_rss": peak_rss(),
    }
    print(json.dumps(ready), file=answers, flush=True)
    for line in requests:
        print(json.dumps(answer(opened, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    # Libraries that write to standard output must not be mistaken for an answer.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, pipe, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
