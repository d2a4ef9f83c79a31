"""Speed and memory of a model, alone or against another one."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mqruntime.recognition import Recognizer
from mqruntime.tasks.whisper import decoder as whisper
from mqtool.bundles.unpackage import stored_bytes
from mqtool.errors import ModelError
from mqtool.evaluation.measure import utterance
from mqtool.recordings.clips import Clip

__all__ = ["bench", "compare", "in_turn"]

_PRIMER = 20  # tokens before the decoder step that `compare` times

Part = Callable[[], object]


def bench(
    model: Path, *, clips: Sequence[Clip] = (), threads: int = 0, runs: int = 5
) -> dict[str, Any]:
    """Load and run a model in a process of its own.

    Without clips, Whisper gets 10 s of noise and 32 tokens, a CTC model 4 s, a keyword model 1 s.

    Args:
        model: model folder or bundle.
        clips: real recordings to run instead, each once.
        threads: threads inside an operator; 0 lets onnxruntime choose.
        runs: times the noise is run.

    Returns:
        The JSON of `mqtool bench`: see `mqtool.evaluation.measure.measure`, and `bytes`, `provider`
        and `threads`.

    Raises:
        ModelError: the model cannot be opened or run.
    """
    Recognizer.open(model).close()  # a broken model is refused here, with its reason
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, clip in enumerate(clips):
            paths.append(Path(folder) / f"{number}.npy")
            np.save(paths[-1], clip.pcm())
        command = [sys.executable, "-m", "mqtool.evaluation.measure", str(model), str(threads)]
        done = subprocess.run(
            [*command, str(runs), *map(str, paths)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelError(f"{model}: could not be measured ({reason})")
    return {
        **json.loads(done.stdout),
        "bytes": stored_bytes(model),
        "provider": "CPUExecutionProvider",
        "threads": threads,
    }


def compare(model: Path, other: Path, *, threads: int = 0, runs: int = 15) -> dict[str, Any]:
    """Time two models of one family in turn, in one process.

    Alternating runs share whatever else the machine does. Whisper: the encoder on a window of
    30 s and a decoder step after 20 tokens (ten steps a run); others: the model on an utterance.

    Args:
        model: model folder or bundle.
        other: model folder or bundle to compare with.
        threads: threads inside an operator; 0 lets onnxruntime choose.
        runs: timings of each part.

    Returns:
        For each part (`encoder` and `decoder_step`, or `model`): medians `ms` and `other_ms`, and
        their `ratio`, below 1 where `model` is faster; and both sizes, `bytes` and `other_bytes`.

    Raises:
        ModelError: a model cannot be opened or run, or the two do different tasks.
    """
    # A pool of threads that spins after its run would take the other model's time.
    config = {"session.force_spinning_stop": "1"}
    ours, theirs = (
        Recognizer.open(path, threads=threads, config=config) for path in (model, other)
    )
    tasks = ours.manifest.task, theirs.manifest.task
    if tasks[0] != tasks[1]:
        raise ModelError(f"{other}: does {tasks[1]!r}, {model} does {tasks[0]!r}; compare alike")
    parts, other_parts = _parts(ours), _parts(theirs)
    result: dict[str, Any] = {
        "bytes": stored_bytes(model),
        "other_bytes": stored_bytes(other),
        "threads": threads,
    }
    for name, part in parts.items():
        repeat = 10 if name == "decoder_step" else 1
        ms, other_ms = in_turn(part, other_parts[name], runs, repeat)
        result[name] = {"ms": ms, "other_ms": other_ms, "ratio": ms / other_ms}
    return result


def _parts(recognizer: Recognizer) -> dict[str, Part]:
    graphs = recognizer.graphs
    pcm = utterance(recognizer.manifest)
    settings = recognizer.manifest.whisper
    if settings is None:
        return {"model": lambda: graphs["model"].run({"pcm": pcm[np.newaxis]})}
    encoder, decoder = graphs["encoder"], graphs["decoder"]
    cross = whisper.encode(encoder, settings, pcm)
    token = settings.start_of_transcript
    _, cache = whisper.decode(decoder, [token] * _PRIMER, cross, whisper.empty_cache(cross))
    return {
        "encoder": lambda: whisper.encode(encoder, settings, pcm),
        "decoder_step": lambda: whisper.decode(decoder, [token], cross, cache),
    }


def in_turn(part: Part, other: Part, runs: int, repeat: int) -> tuple[float, float]:
    """Median milliseconds of a call of each; the two take turns at going first.

    Args:
        part: what is timed; all it does counts.
        other: what it is compared with.
        runs: timings of each, after one that does not count.
        repeat: calls a timing.
    """
    times: dict[Part, list[float]] = {part: [], other: []}
    for run in range(runs + 1):
        for call in (part, other) if run % 2 else (other, part):
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            if run:  # the first one allocates
                times[call].append(1000 * (time.perf_counter() - start) / repeat)
    return median(times[part]), median(times[other])
