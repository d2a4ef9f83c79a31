"""mqtool beside other people's quantized Whispers: errors, bytes, speed and memory in one run.

    python examples/benchmarks/peers.py --manifest prompts/manifest.csv [--ours PACKED ...]

Steps: `make` builds every peer with the peer's own tools, `score` transcribes, `time` measures
speed and memory (run it on an idle machine), `report` writes the table and the picture to
examples/results/peers-MODEL[SUFFIX].*. What is made and measured is kept below --work and not done
again. Every peer decodes greedily, without timestamps, and is told the language. Weights come from
`python examples/get_weights.py`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers import measure, report
from peers.catalogue import FLOAT, PEERS, Peer, Places, make, ours

from mqruntime.bundle.manifest import Manifest
from mqtool.recordings.clips import Clip, find_clips

MODELS = ("whisper-tiny.en", "whisper-base")
STEPS = ("make", "score", "time", "report")
RESULTS = Path(__file__).resolve().parents[1] / "results"


def main() -> None:
    options = _options()
    places = Places(options.work, options.weights, options.manifest)
    for model in options.models:
        _export(places, model)
        candidates = _candidates(places, model, options.ours, options.peers)
        clips = _clips(places, model, options.clips)
        if "make" in options.steps:
            for peer, folder in candidates:
                _make(peer, folder, model, places)
        candidates = [(peer, folder) for peer, folder in candidates if folder.is_dir()]
        if "score" in options.steps:
            for peer, folder in candidates:
                with _going_on(f"{model}: scoring {peer.name}"):
                    measure.score(peer, folder, model, places, clips, options.nice)
        if "time" in options.steps:
            for peer, folder in candidates:
                with _going_on(f"{model}: timing {peer.name}"):
                    _time(peer, folder, model, places, clips, options)
        if "report" in options.steps:
            target = RESULTS / f"peers-{model}{options.suffix}"
            report.write(model, candidates, places, clips, target)


@contextmanager
def _going_on(task: str) -> Iterator[None]:
    """Say what is done; a peer that ends too early does not end the run."""
    print(task, file=sys.stderr, flush=True)
    try:
        yield
    except RuntimeError as error:
        print(f"{task} failed: {error}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {' '.join(STEPS)}; all")
    parser.add_argument("--manifest", type=Path, required=True, help="its dev rows are scored")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS])
    parser.add_argument("--ours", nargs="+", type=Path, default=[], help="packed folders")
    parser.add_argument("--work", type=Path, default=Path("work/peers"))
    parser.add_argument("--weights", type=Path, default=Path("work/weights"))
    parser.add_argument("--clips", type=int, help="clips a language that count (default: all)")
    parser.add_argument("--suffix", default="", help="of the report's name")
    parser.add_argument("--threads", type=int, default=2, help="while timing")
    parser.add_argument("--rounds", type=int, default=7, help="timings of each part")
    parser.add_argument("--timed-clips", type=int, default=8)
    parser.add_argument("--nice", type=int, default=0, help="of scoring processes")
    options = parser.parse_args()
    options.steps = options.steps or STEPS
    if unknown := set(options.steps) - set(STEPS):
        parser.error(f"unknown step {sorted(unknown)[0]!r}; there is {' '.join(STEPS)}")
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def _export(places: Places, model: str) -> None:
    target = places.float_model(model)
    if not target.is_dir():
        target.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mqtool.cli", "export", str(places.weights / model)]
        subprocess.run([*command, "-o", str(target)], check=True)


def _candidates(
    places: Places, model: str, packed: list[Path], names: list[str] | None
) -> list[tuple[Peer, Path]]:
    chosen = [
        (peer, places.folder(peer, model))
        for peer in PEERS
        if (not peer.models or model in peer.models) and (not names or peer.name in names)
    ]
    if chosen[0][0] is not FLOAT:
        chosen.insert(0, (FLOAT, places.float_model(model)))
    source = Manifest.read(places.float_model(model)).source
    return chosen + [
        (ours(folder), folder) for folder in packed if Manifest.read(folder).source == source
    ]


def _clips(places: Places, model: str, limit: int | None) -> list[Clip]:
    """Development clips in the model's languages, the languages in turn."""
    settings = Manifest.read(places.float_model(model)).whisper
    language = None if settings and settings.languages else "en"
    found = find_clips([places.manifest], split="dev", language=language)
    languages = dict.fromkeys(clip.language for clip in found)
    columns = [[clip for clip in found if clip.language == code][:limit] for code in languages]
    return [clip for row in zip(*columns, strict=True) for clip in row]


def _make(peer: Peer, folder: Path, model: str, places: Places) -> None:
    command = make(peer, model, places)
    if not command or folder.is_dir():
        return
    print(f"{model}: making {peer.name}", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"{model}: {peer.name} cannot be made: {reason}", file=sys.stderr)


def _time(
    peer: Peer,
    folder: Path,
    model: str,
    places: Places,
    clips: list[Clip],
    options: argparse.Namespace,
) -> None:
    path = report.times_file(peer, model, places)
    files = measure.digest(folder)
    if path.is_file() and json.loads(path.read_text())["files"] == files:
        return
    every = max(1, len(clips) // options.timed_clips)
    figures = measure.time_in_turn(
        peer,
        folder,
        model,
        places,
        clips[::every][: options.timed_clips],
        threads=options.threads,
        rounds=options.rounds,
        opens=3,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"files": files, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
