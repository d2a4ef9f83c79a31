"""Whisper with a shorter audio context: what it saves in the encoder and what it costs in words.

Whisper was trained on windows of 30 s; a shorter recording is padded with silence. Here the encoder
sees the recording and a margin of silence only. Errors at every margin are compared, clip by clip,
with those at the whole window; times are measured in turn, clip by clip, in one process.

    python examples/benchmarks/audio_context.py MODEL/ --manifest M.csv -o NAME.csv

Transcripts are kept below --work; a run that stops goes on where it was. Times are taken last:
`--no-times` leaves them out (they need an idle machine).
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, markdown_table, write_result

from mqruntime.recognition import Recognizer
from mqruntime.tasks.whisper import decoder as whisper
from mqtool.evaluation.bootstrap import interval, paired_interval
from mqtool.evaluation.word_errors import Errors, count_errors, text_normalizer
from mqtool.recordings.audio import SAMPLE_RATE
from mqtool.recordings.clips import Clip, find_clips

WHOLE = "whole window"


def main() -> None:
    options = _options()
    clips = find_clips([options.manifest], split="dev", language=options.language)
    codes = list(dict.fromkeys(clip.language for clip in clips))
    columns = [[c for c in clips if c.language == code][: options.clips] for code in codes]
    clips = [clip for row in zip(*columns, strict=True) for clip in row]
    margins: dict[str, float | None] = {WHOLE: None}
    margins |= {f"{margin:g} s": margin for margin in options.margins}
    with Recognizer.open(options.model, threads=options.threads) as recognizer:
        texts = _transcripts(
            recognizer, clips, margins, options.work / f"{options.model.name}.jsonl"
        )
        times = {} if options.no_times else _times(recognizer, clips, margins, options.rounds)
    rows = _rows(clips, texts, times, list(margins))
    write_result(options.output, rows, markdown(rows), threads=options.threads, clips=len(clips))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--language")
    parser.add_argument("--margins", nargs="+", type=float, default=[0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--clips", type=int, help="clips a language (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="timings of each clip")
    parser.add_argument("--no-times", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("work/audio_context"))
    parser.add_argument("-o", "--output", type=csv_path, required=True)
    return parser.parse_args()


def _name(clip: Clip) -> str:
    return f"{clip.language}/{clip.path.stem}"


def _context(samples: int, margin: float | None, window: int) -> int:
    if margin is None:
        return window
    return min(whisper.padded_length(samples + round(margin * SAMPLE_RATE)), window)


def _transcripts(
    recognizer: Recognizer, clips: Sequence[Clip], margins: dict[str, float | None], path: Path
) -> dict[tuple[str, str], dict[str, Any]]:
    """(clip, margin) -> its text and number of tokens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = map(json.loads, path.read_text("utf-8").splitlines()) if path.is_file() else ()
    known = {(row["clip"], row["margin"]): row for row in rows}
    with path.open("a", encoding="utf-8") as file:
        for clip in clips:
            pcm = clip.pcm()
            for name, margin in margins.items():
                key = (_name(clip), name)
                if key in known:
                    continue
                text, tokens = _transcribe(recognizer, pcm, clip.language, margin)
                known[key] = {"clip": key[0], "margin": name, "text": text, "tokens": tokens}
                print(json.dumps(known[key], ensure_ascii=False), file=file, flush=True)
    return known


def _transcribe(
    recognizer: Recognizer, pcm: Any, language: str | None, margin: float | None
) -> tuple[str, int]:
    settings, vocabulary = recognizer.manifest.whisper, recognizer.vocabulary
    if settings is None or vocabulary is None:
        raise SystemExit("Error: the model is not a Whisper model")
    pcm = pcm[: settings.window]
    context = _context(len(pcm), margin, settings.window)
    cross = whisper.encode(recognizer.graphs["encoder"], settings, pcm, context=context)
    prompt = whisper.prompt_tokens(settings, language)
    tokens = whisper.generate(recognizer.graphs["decoder"], settings, cross, prompt)
    text = vocabulary.bpe_text(token for token in tokens if token < settings.end_of_text)
    return text.strip(), len(tokens)


def _times(
    recognizer: Recognizer, clips: Sequence[Clip], margins: dict[str, float | None], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Margin -> seconds of the encoder and of everything, clip by clip."""
    settings = recognizer.manifest.whisper
    times = {name: {"encoder": [], "all": []} for name in margins}
    for clip in clips:
        pcm = clip.pcm()[: settings.window]
        prompt = whisper.prompt_tokens(settings, clip.language)
        for _ in range(rounds):
            for name, margin in margins.items():
                context = _context(len(pcm), margin, settings.window)
                start = time.perf_counter()
                cross = whisper.encode(recognizer.graphs["encoder"], settings, pcm, context=context)
                encoded = time.perf_counter()
                whisper.generate(recognizer.graphs["decoder"], settings, cross, prompt)
                times[name]["encoder"].append(encoded - start)
                times[name]["all"].append(time.perf_counter() - start)
    return times


def _rows(
    clips: Sequence[Clip],
    texts: dict[tuple[str, str], dict[str, Any]],
    times: dict[str, dict[str, list[float]]],
    margins: list[str],
) -> list[dict[str, Any]]:
    def errors(margin: str) -> list[Errors]:
        counted = []
        for clip in clips:
            normalize = text_normalizer(clip.language, remove_diacritics=True)
            text = texts[_name(clip), margin]["text"]
            counted.append(count_errors(normalize(clip.transcript or ""), normalize(text)))
        return counted

    whole = errors(WHOLE)
    rows = []
    for margin in margins:
        found = errors(margin)
        tokens = max(texts[_name(clip), margin]["tokens"] for clip in clips)
        for code in ("all", *sorted({str(clip.language) for clip in clips})):
            chosen = [i for i, clip in enumerate(clips) if code in ("all", clip.language)]
            figures = _figures([found[i] for i in chosen], [whole[i] for i in chosen])
            row: dict[str, Any] = {"margin": margin, "language": code, **figures}
            row["most_tokens"] = tokens
            of_all = times.get(margin, {}) if code == "all" else {}
            for part, values in of_all.items():
                pairs = zip(values, times[WHOLE][part], strict=True)
                row[f"{part}_ms"] = 1000 * median(values)
                row[f"{part}_ratio"] = median(mine / base for mine, base in pairs)
            rows.append(row)
    return rows


def _figures(found: list[Errors], whole: list[Errors]) -> dict[str, Any]:
    words = [one.words for one in found]
    wrong, before = ([one.word_errors for one in some] for some in (found, whole))
    low, high = interval(wrong, words)
    low_above, high_above = paired_interval(wrong, before, words)
    shares = {
        "wer": sum(wrong) / sum(words),
        **{"wer_low": low, "wer_high": high},
        "wer_above_whole": (sum(wrong) - sum(before)) / sum(words),
        **{"wer_above_whole_low": low_above, "wer_above_whole_high": high_above},
    }
    return {name: 100 * share for name, share in shares.items()}


def markdown(rows: list[dict[str, Any]]) -> list[str]:
    codes = list(dict.fromkeys(row["language"] for row in rows))[1:]
    head = ["silence after the clip", "WER (95 %)", "above the whole window (95 %)"]
    head += [*(f"WER {code}" for code in codes), "most tokens", "encoder time", "all time"]
    table = []
    for row in rows:
        if row["language"] != "all":
            table[-1].insert(-3, f"{row['wer']:.1f}")
            continue
        cells = [row["margin"], f"{row['wer']:.1f} ({row['wer_low']:.1f} to {row['wer_high']:.1f})"]
        low, high = row["wer_above_whole_low"], row["wer_above_whole_high"]
        cells.append(f"{row['wer_above_whole']:+.1f} ({low:+.1f} to {high:+.1f})")
        cells.append(f"{row['most_tokens']:.0f}")
        ratios = (row.get(f"{part}_ratio") for part in ("encoder", "all"))
        cells += ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        table.append(cells)
    return markdown_table(head, table)


if __name__ == "__main__":
    main()
