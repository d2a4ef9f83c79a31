"""Speed and memory of a model, alone or against another one."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mqruntime.atomic import scratch_folder
from mqruntime.recognition import Recognizer
from mqtool.bundles.unpackage import stored_bytes
from mqtool.errors import ModelError
from mqtool.evaluation.measure import typical_noise
from mqtool.evaluation.onnxruntime_int8 import quantize_with_onnxruntime
from mqtool.recordings.clips import Clip

__all__ = [
    "BenchComparison",
    "Benchmark",
    "Timing",
    "bench_against",
    "bench_int8",
    "bench_model",
    "time_interleaved",
]

Part = Callable[[], object]


@dataclass(frozen=True)
class Benchmark:
    """What loading and running a model took.

    Attributes:
        load_ms: to open it.
        latency_ms: median of an utterance or recording.
        rtf: seconds of work a second of audio.
        seconds_audio: that was run.
        peak_rss_mb: largest resident set of the process, MB of 10^6 bytes.
        rss_before_mb: of Python and onnxruntime alone.
        bytes: size of the model.
        provider: of onnxruntime.
        threads: inside an operator; 0: onnxruntime's choice.
    """

    load_ms: float
    latency_ms: float
    rtf: float
    seconds_audio: float
    peak_rss_mb: float
    rss_before_mb: float
    bytes: int
    provider: str
    threads: int

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool bench`."""
        return asdict(self)


@dataclass(frozen=True)
class Timing:
    """Medians of two models' times of one part, and their ratio: below 1 the first is faster."""

    ms: float
    other_ms: float
    ratio: float


@dataclass(frozen=True)
class BenchComparison:
    """Two models' sizes and times.

    Attributes:
        bytes: size of the first.
        other_bytes: of the second.
        threads: inside an operator; 0: onnxruntime's choice.
        parts: what was timed: `encoder` and `decoder_step`, or `model`.
    """

    bytes: int
    other_bytes: int
    threads: int
    parts: dict[str, Timing]

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool bench --against`."""
        fields = asdict(self)
        return {**fields.pop("parts"), **fields}


def bench_model(
    model: Path, *, clips: Sequence[Clip] = (), threads: int = 0, runs: int = 5
) -> Benchmark:
    """Load and run a model in a process of its own.

    Without clips, Whisper gets 10 s of noise and 32 tokens, a CTC model 4 s, a keyword model 1 s.

    Args:
        model: model folder or bundle.
        clips: real recordings to run instead, each once.
        threads: threads inside an operator; 0 lets onnxruntime choose.
        runs: times the noise is run.

    Raises:
        ModelError: the model cannot be opened or run.
    """
    with Recognizer.open(model) as recognizer:  # a broken model is refused here, with its reason
        rate = recognizer.manifest.sample_rate
    with scratch_folder() as folder:
        paths = []
        for number, clip in enumerate(clips):
            paths.append(folder / f"{number}.npy")
            np.save(paths[-1], clip.pcm(rate))
        command = [sys.executable, "-m", "mqtool.evaluation.measure", str(model), str(threads)]
        done = subprocess.run(
            [*command, str(runs), *map(str, paths)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ModelError(f"{model}: could not be measured ({reason})")
    return Benchmark(
        **json.loads(done.stdout),
        bytes=stored_bytes(model),
        provider="CPUExecutionProvider",
        threads=threads,
    )


def bench_against(model: Path, other: Path, *, threads: int = 0, runs: int = 15) -> BenchComparison:
    """Time two models of one family in turn, in one process.

    Alternating runs share whatever else the machine does. Whisper: the encoder on a window of
    30 s and a decoder step after 20 tokens (ten steps a run); others: the model on an utterance.

    Args:
        model: model folder or bundle.
        other: model folder or bundle to compare with.
        threads: threads inside an operator; 0 lets onnxruntime choose.
        runs: timings of each part.

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
    parts, other_parts = (
        one.task.timed_parts(one.graphs, typical_noise(one)) for one in (ours, theirs)
    )
    timings = {}
    for name, (part, repeat) in parts.items():
        ms, other_ms = time_interleaved(part, other_parts[name][0], runs, repeat)
        timings[name] = Timing(ms, other_ms, ms / other_ms)
    return BenchComparison(stored_bytes(model), stored_bytes(other), threads, timings)


def bench_int8(
    model: Path, reference: Path, *, threads: int = 0, runs: int = 15
) -> BenchComparison:
    """`bench_against` the float model `reference` as onnxruntime quantizes it to int8."""
    with scratch_folder() as folder:
        other = folder / "int8"
        quantize_with_onnxruntime(reference, other)
        return bench_against(model, other, threads=threads, runs=runs)


def time_interleaved(part: Part, other: Part, runs: int, repeat: int) -> tuple[float, float]:
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
