"""Accuracy of a peer, and its speed in turn with the float model's.

Transcripts are kept, one line of JSON a clip, with the digest of the files that gave them: a run
that stops goes on where it was, and a peer that is made anew is scored anew.
"""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mqtool.recordings.clips import Clip
from peers.catalogue import FLOAT, HERE, Peer, Places

__all__ = ["Worker", "digest", "folder_bytes", "read_transcripts", "score", "time_in_turn"]

FEW, MANY = 4, 36  # decoder steps; the difference of the two times is that of the steps between


class Worker:
    """A peer opened in a process of its own."""

    def __init__(
        self, peer: Peer, folder: Path, places: Places, threads: int, nice: int = 0
    ) -> None:
        sources = [str(HERE.parents[2] / part) for part in ("toolchain", "runtime_py")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(sources),
            "OMP_NUM_THREADS": str(threads),
            "ORT_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "1",
        }
        python = str(places.python(peer.environment))
        command = [python, str(HERE / "worker.py"), peer.engine, str(folder), str(threads)]
        if nice:
            command = ["nice", "-n", str(nice), *command]
        self._errors = (places.work / "worker.log").open("w")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self.ready = self._read()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args}: ended; see {self._errors.name}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in folder.iterdir())


def digest(folder: Path) -> str:
    """Of all files' names and contents."""
    sha256 = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        sha256.update(file.name.encode())
        with file.open("rb") as handle:
            sha256.update(hashlib.file_digest(handle, "sha256").digest())
    return sha256.hexdigest()[:16]


def pcm_file(clip: Clip, places: Places) -> Path:
    """The clip as .npy, for processes that cannot read audio files."""
    path = places.work / "clips" / f"{clip.language}-{clip.path.stem}.npy"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.npy")
        np.save(temporary, clip.pcm())
        temporary.replace(path)
    return path


def _transcripts_file(peer: Peer, model: str, places: Places) -> Path:
    return places.work / "transcripts" / model / f"{peer.name}.jsonl"


def read_transcripts(peer: Peer, model: str, places: Places, files: str) -> dict[str, str]:
    """Clip -> text, of the files with this digest."""
    path = _transcripts_file(peer, model, places)
    if not path.is_file():
        return {}
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return {row["clip"]: row["text"] for row in rows if row["files"] == files}


def score(
    peer: Peer, folder: Path, model: str, places: Places, clips: Iterable[Clip], nice: int
) -> None:
    """Transcribe the clips that have not been, in one thread."""
    files = digest(folder)
    known = read_transcripts(peer, model, places, files)
    left = [clip for clip in clips if clip_name(clip) not in known]
    if not left:
        return
    path = _transcripts_file(peer, model, places)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Worker(peer, folder, places, 1, nice) as worker, path.open("a", encoding="utf-8") as file:
        for clip in left:
            pcm = str(pcm_file(clip, places))
            text = worker.ask(do="transcribe", pcm=pcm, language=clip.language)["text"]
            row = {"clip": clip_name(clip), "text": text.strip(), "files": files}
            print(json.dumps(row, ensure_ascii=False), file=file, flush=True)


def clip_name(clip: Clip) -> str:
    """A name for a clip that does not depend on where the data are."""
    return f"{clip.language}/{clip.path.stem}"


def time_in_turn(
    peer: Peer,
    folder: Path,
    model: str,
    places: Places,
    clips: list[Clip],
    *,
    threads: int,
    rounds: int,
    opens: int,
) -> dict[str, Any]:
    """Times of a peer and the float model, which take turns in processes of their own.

    Returns:
        For each of `encoder`, `decoder_step` (milliseconds), `rtf` and `load` (milliseconds):
        medians of the `peer`, of the `float` model and their `ratio`; `peak_rss` and
        `imported_rss` in bytes.
    """
    sides = {"peer": (peer, folder), "float": (FLOAT, places.float_model(model))}
    times: dict[str, dict[str, list[float]]] = {
        name: {side: [] for side in sides} for name in ("load", "encoder", "decoder_step", "rtf")
    }
    peaks: dict[str, Any] = {}
    for _ in range(opens - 1):
        for side, (who, where) in sides.items():
            with Worker(who, where, places, threads) as worker:
                times["load"][side].append(1000 * worker.ready["load_seconds"])
    with (
        Worker(*sides["peer"], places, threads) as first,
        Worker(*sides["float"], places, threads) as second,
    ):
        workers = {"peer": first, "float": second}
        files = [(str(pcm_file(clip, places)), clip.language) for clip in clips]
        for side, worker in workers.items():
            times["load"][side].append(1000 * worker.ready["load_seconds"])
            worker.ask(do="transcribe", pcm=files[0][0], language=files[0][1])
        for number in range(rounds):
            order = list(workers.items())[:: 1 if number % 2 else -1]
            for side, worker in order:
                time.sleep(0.2)  # threads of the other side may still spin
                encoder = worker.ask(do="encode", pcm=files[number % len(files)][0])["seconds"]
                few, many = (worker.ask(do="decode", tokens=n)["seconds"] for n in (FEW, MANY))
                times["encoder"][side].append(1000 * encoder)
                times["decoder_step"][side].append(1000 * (many - few) / (MANY - FEW))
        for number, (pcm, language) in enumerate(files):
            seconds = len(np.load(pcm)) / 16000
            for side, worker in list(workers.items())[:: 1 if number % 2 else -1]:
                time.sleep(0.2)
                took = worker.ask(do="transcribe", pcm=pcm, language=language)["seconds"]
                times["rtf"][side].append(took / seconds)
        peaks = {
            "peak_rss": first.ask(do="memory")["peak_rss"],
            "imported_rss": first.ready["imported_rss"],
        }
    result: dict[str, Any] = {"threads": threads, **peaks}
    for name, by_side in times.items():
        medians = {side: median(values) for side, values in by_side.items()}
        pairs = zip(by_side["peer"], by_side["float"], strict=True)
        result[name] = medians | {"ratio": median(mine / base for mine, base in pairs)}
    return result
