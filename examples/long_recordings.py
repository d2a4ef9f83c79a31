"""What breaks first: long recordings, and recordings in which nobody speaks.

The `dev` clips of a language are joined, half a second of quiet between them, to one recording a
language, some minutes long. Beside word errors it counts repeats (words that only say again what
was said four times in a row). Of sixty made recordings without speech (`speechless.py`) it counts
those with a text, and the words of these texts. The first model is what the others stand beside.

    python examples/long_recordings.py MODEL/ PACKED/... --manifest M.csv [--languages en,fr]
        [--minutes 9] -o OUT.csv
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from result_files import csv_path, write_result
from speechless import RATE, speechless

from mqruntime.recognition import Recognizer
from mqtool.evaluation.joined import QUIET_LEVEL
from mqtool.evaluation.word_errors import count_errors, text_normalizer
from mqtool.recordings.clips import Clip, find_clips

QUIET_SECONDS = 0.5
MOST_WORDS = 12
"""Of a phrase that is looked for."""
TIMES = 4
"""In a row: people say things twice."""


def joined(clips: Sequence[Clip], seconds: float) -> tuple[np.ndarray, str]:
    """As many clips as fit, float32 [samples], and what is said in them."""
    quiet = (
        np.random.default_rng(0)
        .normal(0, QUIET_LEVEL, int(QUIET_SECONDS * RATE))
        .astype(np.float32)
    )
    parts, said, samples = [], [], 0
    for clip in clips:
        pcm = clip.pcm(RATE)
        if samples + len(pcm) + len(quiet) > seconds * RATE:
            break
        parts += [pcm, quiet]
        samples += len(pcm) + len(quiet)
        said.append(clip.fields["transcript"])
    return np.concatenate(parts), " ".join(said)


def repeated(words: Sequence[str]) -> int:
    """Words beyond the first of phrases that stand there `TIMES` times in a row or more."""
    beyond, place = 0, 0
    while place < len(words):
        length, times = max(
            ((n, _times(words, place, n)) for n in range(1, MOST_WORDS + 1)),
            key=lambda found: found[0] * found[1] if found[1] >= TIMES else 0,
        )
        if times < TIMES:
            place += 1
            continue
        beyond += length * (times - 1)
        place += length * times
    return beyond


def _times(words: Sequence[str], place: int, length: int) -> int:
    phrase, times = words[place : place + length], 1
    while len(phrase) == length and words[place + length * times :][:length] == phrase:
        times += 1
    return times


def figures(
    model: Path, speech: dict[str, tuple[np.ndarray, str]], threads: int
) -> list[dict[str, Any]]:
    """A row for each language, and one for what is no speech."""
    size = sum(file.stat().st_size for file in model.rglob("*"))
    rows: list[dict[str, Any]] = []
    with Recognizer.open(model, threads=threads) as recognizer:
        for language, (pcm, said) in speech.items():
            told = language if recognizer.task.languages else None
            normalize = text_normalizer(language, remove_diacritics=True)
            heard = normalize(recognizer.transcribe(pcm, told).text)
            errors = count_errors(normalize(said), heard)
            row = {"recording": language, "seconds": round(len(pcm) / RATE), "words": errors.words}
            row["wer"] = 100 * errors.word_errors / errors.words
            rows.append(row | {"repeated_words": repeated(heard.split())})
        found = {name: recognizer.transcribe(pcm).text for name, pcm in speechless()}
    texts = {name: text for name, text in found.items() if text}
    words = [text.split() for text in texts.values()]
    row = {"recording": "no speech", "recordings": len(found), "with_text": len(texts)}
    row |= {"words_out_of_nothing": sum(map(len, words))}
    rows.append(row | {"repeated_words": sum(map(repeated, words)), "texts": "; ".join(texts)})
    return [{"model": model.name, "bytes": size, **row} for row in rows]


def main() -> None:
    """Transcribe with every model, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--languages", default="en")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--output", type=csv_path, required=True)
    options = parser.parse_args()
    speech = {}
    for language in options.languages.split(","):
        clips = find_clips([options.manifest], split="dev", language=language)
        speech[language] = joined(clips, 60 * options.minutes)
    rows: list[dict[str, Any]] = []
    for model in options.models:
        rows += figures(model, speech, options.threads)
        write_result(options.output, rows)
        print(model.name, [row.get("wer", row.get("with_text")) for row in rows[-2:]], flush=True)


if __name__ == "__main__":
    main()
