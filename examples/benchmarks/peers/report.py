"""The table and the plot: errors against bytes, time against bytes."""

import csv
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from mqtool.evaluation.bootstrap import interval, paired_interval
from mqtool.evaluation.word_errors import Errors, count_errors, text_normalizer
from mqtool.recordings.clips import Clip
from peers.catalogue import Peer, Places
from peers.measure import clip_name, digest, folder_bytes, read_transcripts

__all__ = ["times_file", "write"]

FAMILIES = {
    "float": ("black", "*"),
    "mqtool": ("tab:red", "o"),
    "whisper.cpp": ("tab:blue", "s"),
    "onnxruntime": ("tab:green", "^"),
    "ctranslate2": ("tab:orange", "D"),
    "optimum": ("tab:purple", "v"),
    "torchao": ("tab:brown", "P"),
}

Outcomes = dict[str, Errors]  # clip -> errors


def times_file(peer: Peer, model: str, places: Places) -> Path:
    """Where the times of a peer are kept."""
    return places.work / "times" / model / f"{peer.name}.json"


def write(
    model: str,
    peers: Sequence[tuple[Peer, Path]],
    places: Places,
    clips: Sequence[Clip],
    target: Path,
) -> None:
    """Write `target` as .json, .md, .csv and .png.

    Args:
        model: name of the model.
        peers: each with its folder, the float model first.
        places: where transcripts and times are.
        clips: the manifest's; what a peer has transcribed of them counts.
        target: path without suffix.
    """
    rows = []
    reference: Outcomes = {}
    for peer, folder in peers:
        files = digest(folder)
        texts = read_transcripts(peer, model, places, files)
        outcomes = _outcomes(clips, texts)
        reference = reference or outcomes
        row: dict[str, Any] = {"name": peer.name, "family": peer.family}
        row |= {"label": peer.label or peer.name, "bytes": folder_bytes(folder)}
        row["all"] = _errors(outcomes, reference)
        languages = sorted({name.partition("/")[0] for name in outcomes})
        if len(languages) > 1:
            row["languages"] = {
                code: _errors(
                    {name: one for name, one in outcomes.items() if name.startswith(f"{code}/")},
                    reference,
                )
                for code in languages
            }
        row["speed"] = _times(times_file(peer, model, places), files)
        rows.append(row)
    facts = {"command": "python " + " ".join(sys.argv), "date": date.today().isoformat()}
    target.parent.mkdir(exist_ok=True)
    _beside(target, ".json").write_text(
        json.dumps(facts | {"model": model, "clips": len(clips), "rows": rows}, indent=1) + "\n"
    )
    table = _table(rows)
    with _beside(target, ".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    markdown = ["| " + " | ".join(line) + " |" for line in table]
    markdown.insert(1, "|---" * len(table[0]) + "|")
    _beside(target, ".md").write_text("\n".join(markdown) + "\n")
    _plot(model, rows, _beside(target, ".png"))


def _beside(target: Path, suffix: str) -> Path:
    """The file with this suffix; a model's name may hold a dot."""
    return target.with_name(target.name + suffix)


def _outcomes(clips: Sequence[Clip], texts: dict[str, str]) -> Outcomes:
    outcomes = {}
    for clip in clips:
        name = clip_name(clip)
        if name in texts:
            normalize = text_normalizer(clip.language, remove_diacritics=True)
            outcomes[name] = count_errors(normalize(clip.transcript or ""), normalize(texts[name]))
    return outcomes


def _errors(outcomes: Outcomes, reference: Outcomes) -> dict[str, Any]:
    """Rates in percent with 95 % intervals, and the difference from the float model's."""
    if not outcomes:
        return {"clips": 0}
    chosen = list(outcomes.values())
    words = [one.words for one in chosen]
    characters = [one.characters for one in chosen]
    wrong = [one.word_errors for one in chosen]
    figures: dict[str, Any] = {
        "clips": len(chosen),
        "wer": 100 * sum(wrong) / sum(words),
        "wer_interval": _percent(interval(wrong, words)),
        "cer": 100 * sum(one.character_errors for one in chosen) / sum(characters),
        "cer_interval": _percent(interval([one.character_errors for one in chosen], characters)),
    }
    common = [name for name in outcomes if name in reference]
    if common:
        before = [reference[name].word_errors for name in common]
        after = [outcomes[name].word_errors for name in common]
        totals = [outcomes[name].words for name in common]
        figures["wer_above_float"] = 100 * (sum(after) - sum(before)) / sum(totals)
        figures["wer_above_float_interval"] = _percent(paired_interval(after, before, totals))
    return figures


def _percent(ends: tuple[float, float]) -> list[float]:
    return [100 * end for end in ends]


def _times(path: Path, files: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    times: dict[str, Any] = json.loads(path.read_text())
    return times if times.pop("files") == files else None


def _table(rows: list[dict[str, Any]]) -> list[list[str]]:
    codes = sorted({code for row in rows for code in row.get("languages", {})})
    head = ["model", "bytes", "clips", "WER (95 %)", "WER above float (95 %)", "CER"]
    head += [f"WER {code}" for code in codes]
    head += ["real-time factor", "of float", "encoder of float", "decoder step of float"]
    table = [[*head, "load ms", "peak RSS MB", "of it imports"]]
    for row in sorted(rows, key=lambda row: -row["bytes"]):
        scores = row["all"]
        cells = [row["name"], f"{row['bytes']:,}", str(scores["clips"])]
        if scores["clips"]:
            low, high = scores["wer_interval"]
            cells.append(f"{scores['wer']:.1f} ({low:.1f} to {high:.1f})")
            low, high = scores["wer_above_float_interval"]
            cells.append(f"{scores['wer_above_float']:+.1f} ({low:+.1f} to {high:+.1f})")
            cells.append(f"{scores['cer']:.1f}")
        else:
            cells += ["", "", ""]
        for code in codes:
            of_language = row.get("languages", {}).get(code, {})
            cells.append(f"{of_language['wer']:.1f}" if "wer" in of_language else "")
        table.append(cells + _speed_cells(row["speed"]))
    return table


def _speed_cells(speed: dict[str, Any] | None) -> list[str]:
    if speed is None:
        return [""] * 7
    return [
        f"{speed['rtf']['peer']:.3f}",
        *[f"{speed[part]['ratio']:.2f}" for part in ("rtf", "encoder", "decoder_step")],
        f"{speed['load']['peer']:.0f}",
        f"{speed['peak_rss'] / 1e6:.0f}",
        f"{speed['imported_rss'] / 1e6:.0f}",
    ]


def _plot(model: str, rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    panels = 2 if any(row["speed"] for row in rows) else 1
    figure, drawn = pyplot.subplots(
        1, panels, figsize=(7 * panels, 6), layout="constrained", squeeze=False
    )
    errors, times = drawn[0, 0], drawn[0, -1]
    for family, (colour, marker) in FAMILIES.items():
        members = sorted((r for r in rows if r["family"] == family), key=lambda row: row["bytes"])
        style = {"color": colour, "marker": marker, "label": family}
        scored = [row for row in members if row["all"]["clips"]]
        line = "-" if family == "mqtool" else "none"
        if scored:
            middle = [row["all"]["wer"] for row in scored]
            ends = [row["all"]["wer_interval"] for row in scored]
            bars = [[m - e[0] for m, e in zip(middle, ends, strict=True)]]
            bars.append([e[1] - m for m, e in zip(middle, ends, strict=True)])
            sizes = [row["bytes"] / 1e6 for row in scored]
            errors.errorbar(sizes, middle, bars, linestyle=line, elinewidth=0.5, **style)
            _label(errors, scored, middle)
        timed = [row for row in members if row["speed"]]
        if timed:
            ratios = [row["speed"]["rtf"]["ratio"] for row in timed]
            times.plot([row["bytes"] / 1e6 for row in timed], ratios, linestyle=line, **style)
            _label(times, timed, ratios)
    errors.set_ylabel("word error rate, % (95 % interval)")
    lowest = min((row["all"]["wer"] for row in rows if row["all"]["clips"]), default=1.0)
    errors.set_ylim(0, 5 * lowest)
    if times is not errors:
        times.set_ylabel("time to transcribe, float ONNX model = 1")
        times.set_ylim(bottom=0)
    for axes in drawn[0]:
        axes.set_xlabel("MB on disk, all files (10⁶ bytes)")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        axes.xaxis.set_minor_formatter(mpl.ticker.ScalarFormatter())
        axes.grid(alpha=0.3, which="both")
    errors.legend()
    figure.suptitle(model)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _label(axes: Any, rows: list[dict[str, Any]], heights: list[float]) -> None:
    for row, height in zip(rows, heights, strict=True):
        text = row["label"].removeprefix(f"{row['family']}-")
        axes.annotate(
            text, (row["bytes"] / 1e6, height), (4, 4), textcoords="offset points", fontsize=7
        )
