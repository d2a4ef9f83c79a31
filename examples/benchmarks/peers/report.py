"""The table and the picture: bytes, errors and time of every peer."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from result_files import markdown_table, write_result

from mqtool.evaluation.bootstrap import interval, paired_interval
from mqtool.evaluation.word_errors import Errors, count_errors, text_normalizer
from mqtool.recordings.clips import Clip
from peers.catalogue import Peer, Places
from peers.measure import clip_name, digest, folder_bytes, read_transcripts
from peers.picture import draw

__all__ = ["PARTS", "table", "time_columns", "times_file", "write"]

PARTS = {"rtf": "", "encoder": "_ms", "decoder_step": "_ms", "load": "_ms"}  # and their units

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
    """Write `target` as .csv, .md and .png.

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
        outcomes = _outcomes(clips, read_transcripts(peer, model, places, files))
        reference = reference or outcomes
        facts = {"model": peer.name, "family": peer.family, "bytes": folder_bytes(folder)}
        made = [facts | figures for figures in _by_language(outcomes, reference)]
        made[0] |= _times(times_file(peer, model, places), files)
        rows += made
    rows.sort(key=lambda row: -row["bytes"])
    target.parent.mkdir(exist_ok=True)
    # A model's name may hold a dot: with_suffix would cut it.
    beside = {kind: target.with_name(f"{target.name}.{kind}") for kind in ("csv", "png")}
    write_result(beside["csv"], rows, table(rows))
    title = f"{model}, {len(reference)} clips"
    picture = draw(title, [row for row in rows if row["language"] == "all"])
    picture.savefig(beside["png"], dpi=110, metadata={"Software": None})


def _by_language(outcomes: Outcomes, reference: Outcomes) -> Iterator[dict[str, Any]]:
    """Figures over all clips, and over each language's where there are several."""
    yield {"language": "all", **_errors(outcomes, reference)}
    languages = sorted({name.partition("/")[0] for name in outcomes})
    for code in languages if len(languages) > 1 else []:
        some = {name: one for name, one in outcomes.items() if name.startswith(f"{code}/")}
        yield {"language": code, **_errors(some, reference)}


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
    wrong_characters = [one.character_errors for one in chosen]
    figures: dict[str, Any] = {
        "clips": len(chosen),
        **_percent("wer", sum(wrong) / sum(words), interval(wrong, words)),
    }
    common = [name for name in outcomes if name in reference]
    if common:
        before = [reference[name].word_errors for name in common]
        after = [outcomes[name].word_errors for name in common]
        totals = [outcomes[name].words for name in common]
        difference = (sum(after) - sum(before)) / sum(totals)
        figures |= _percent("wer_above_float", difference, paired_interval(after, before, totals))
    cer = sum(wrong_characters) / sum(characters)
    return figures | _percent("cer", cer, interval(wrong_characters, characters))


def _percent(name: str, share: float, ends: tuple[float, float]) -> dict[str, float]:
    low, high = ends
    return {name: 100 * share, f"{name}_low": 100 * low, f"{name}_high": 100 * high}


def _times(path: Path, files: str) -> dict[str, Any]:
    """Columns of speed and memory, none if it was not measured for these files."""
    times: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"files": None}
    return time_columns(times) if times.pop("files") == files else {}


def time_columns(times: dict[str, Any]) -> dict[str, Any]:
    """What `measure.time_in_turn` found as flat columns, with units in their names."""
    columns = {"threads": times["threads"]}
    for part, unit in PARTS.items():
        columns[f"{part}{unit}"] = times[part]["peer"]
        columns[f"float_{part}{unit}"] = times[part]["float"]
        columns[f"{part}_ratio"] = times[part]["ratio"]
    return columns | {"peak_rss": times["peak_rss"], "imported_rss": times["imported_rss"]}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of Markdown, one a model."""
    codes = sorted({row["language"] for row in rows} - {"all"})
    head = ["model", "bytes", "clips", "WER (95 %)", "WER above float (95 %)", "CER"]
    head += [f"WER {code}" for code in codes]
    head += ["real-time factor", "of float", "encoder of float", "decoder step of float"]
    head += ["load ms", "peak RSS MB", "of it imports"]
    lines = []
    for row in (row for row in rows if row["language"] == "all"):
        cells = [row["model"], f"{row['bytes']:,.0f}", f"{row['clips']:.0f}"]
        for name, sign in (("wer", ""), ("wer_above_float", "+")):
            form = f"{sign}.1f"
            ends = [row.get(f"{name}{end}") for end in ("", "_low", "_high")]
            cells.append("" if None in ends else "{:{f}} ({:{f}} to {:{f}})".format(*ends, f=form))
        cells.append(_number(row.get("cer"), 1))
        for code in codes:
            of_language = [
                other.get("wer")
                for other in rows
                if (other["model"], other["language"]) == (row["model"], code)
            ]
            cells.append(_number(next(iter(of_language), None), 1))
        ratios = [row.get(f"{part}_ratio") for part in ("rtf", "encoder", "decoder_step")]
        cells += [_number(row.get("rtf"), 3), *(_number(ratio, 2) for ratio in ratios)]
        cells.append(_number(row.get("load_ms"), 0))
        for name in ("peak_rss", "imported_rss"):
            value = row.get(name)
            cells.append(_number(None if value is None else value / 1e6, 0))
        lines.append(cells)
    return markdown_table(head, lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
