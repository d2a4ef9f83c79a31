"""Scores of models whose answers are known."""

import numpy as np
import pytest

from fake_ctc import loudness_folder, manifest_csv, reader_folder, spell
from mqtool.errors import ClipsError, ModelError
from mqtool.evaluation.bench import bench_against, bench_model
from mqtool.evaluation.score import evaluate_model
from mqtool.recordings.clips import find_clips


def test_word_and_character_errors_by_hand(tmp_path):
    model = reader_folder(tmp_path / "model")
    spoken = ["bell rings", "cat", "no dogs here"]
    rows = [
        {"transcript": "Bell, rings!", "group": "F"},  # no error
        {"transcript": "cut", "group": "M"},  # 1 of 1 word, 1 of 3 characters
        {"transcript": "dogs here now", "group": "M"},  # delete no, insert now: 2 of 3 words
    ]
    manifest = manifest_csv(tmp_path / "clips", [spell(text) for text in spoken], rows)
    result = evaluate_model(model, find_clips([manifest])).to_json()
    assert result["clips"] == 3
    assert result["wer"] == pytest.approx(100 * 3 / 6)
    # "no dogs here" against "dogs here now": three characters deleted, four inserted.
    assert result["cer"] == pytest.approx(100 * 8 / 26)
    assert result["accuracy"] is None
    assert result["groups"]["F"]["wer"] == 0
    assert result["groups"]["M"]["wer"] == pytest.approx(75)
    assert result["groups"]["M"]["clips"] == 2
    assert result["wer_interval"][0] <= 50 <= result["wer_interval"][1]
    assert [row["text"] for row in result["per_clip"]] == spoken
    assert result["bytes"] == sum(path.stat().st_size for path in model.iterdir())
    seconds = sum(len(spell(text)) for text in spoken) / 16000
    assert result["seconds_audio"] == pytest.approx(seconds)
    assert 0 < result["rtf"] < 10


def test_keyword_accuracy_by_hand(tmp_path):
    model = loudness_folder(tmp_path / "model")
    clips = [np.full(1600, level) for level in (0.5, 0.01, 0.3, 0.02)]
    words = ["loud", "quiet", "quiet", "quiet"]
    manifest = manifest_csv(tmp_path / "clips", clips, [{"transcript": word} for word in words])
    result = evaluate_model(model, find_clips([manifest])).to_json()
    assert result["accuracy"] == 75
    assert [row["correct"] for row in result["per_clip"]] == [True, True, False, True]
    assert result["groups"] == {}


def test_clips_without_transcripts_are_refused(tmp_path):
    model = reader_folder(tmp_path / "model")
    rows = [{"transcript": "a"}, {"transcript": ""}]
    manifest = manifest_csv(tmp_path / "clips", [spell("a")] * 2, rows)
    with pytest.raises(ClipsError, match=r"1\.wav: 1 of 2 clips have no transcript"):
        evaluate_model(model, find_clips([manifest]))


def test_bench_measures_in_its_own_process(tmp_path):
    model = reader_folder(tmp_path / "model")
    ballast = np.ones(100_000_000, np.uint8)  # 100 MB here must not count there
    result = bench_model(model, threads=1, runs=2).to_json()
    assert ballast.any()
    assert result["bytes"] == sum(path.stat().st_size for path in model.iterdir())
    assert 10 < result["rss_before_mb"] <= result["peak_rss_mb"] < 150
    assert result["rtf"] == pytest.approx(result["latency_ms"] / 4000, rel=2)
    assert 0 < result["load_ms"] < 10_000
    assert (result["provider"], result["threads"]) == ("CPUExecutionProvider", 1)


def test_bench_refuses_a_broken_model(tmp_path):
    model = reader_folder(tmp_path / "model")
    (model / "model.onnx").write_bytes(b"broken")
    with pytest.raises(ModelError, match=r"model\.onnx: is not an ONNX graph"):
        bench_model(model)


def test_compare_alternates_and_refuses_another_task(tmp_path):
    reader, loudness = reader_folder(tmp_path / "a"), loudness_folder(tmp_path / "b")
    result = bench_against(reader, reader, threads=1, runs=9).to_json()
    assert result["model"]["ratio"] == pytest.approx(
        result["model"]["ms"] / result["model"]["other_ms"]
    )
    assert result["bytes"] == result["other_bytes"]
    with pytest.raises(ModelError, match="does 'keywords'"):
        bench_against(reader, loudness)
