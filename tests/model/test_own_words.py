"""Counts of a person's own texts, and what they do to a plan."""

import json
from dataclasses import replace

import numpy as np
import pytest

import mqtool
from mqtool.errors import ClipsError, ModelError, OptionError, PlanError
from mqtool.model.folder import ModelFolder
from mqtool.model.own_words import LISTED, OwnWords, count_own_words
from mqtool.observe import frequencies
from mqtool.packing.plan_file import Plan
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.quantization import coded
from mqtool.quantization.calibration_stats import collect_stats
from mqtool.recordings.texts import LONGEST_LINE, listed_words, text_lines
from tiny_graph import noise_clips, toy_folder

BUDGET = 12_000


def test_texts_and_recordings_count_alike():
    heard = np.array([0.5, 0.5, 0, 0])
    mixed = OwnWords({"1": 1, "2": 3}, [3]).mixed_with(heard)
    np.testing.assert_allclose(mixed, [0.25, 0.375, 0.375, LISTED])
    np.testing.assert_array_equal(heard, [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(OwnWords({}, [0, 2]).mixed_with(heard), [0.5, 0.5, LISTED, 0])


def test_tokens_of_texts_are_counted(exported_tiny_en):
    folder = ModelFolder.open(exported_tiny_en)
    spell = folder.vocabulary.bpe_text
    found = count_own_words(folder, ["the zoo the"], ["Mbeki", "new york"])
    assert {spell([int(t)]): n for t, n in found.counts.items()} == {" the": 2, " zoo": 1}
    listed = {spell([token]) for token in found.listed}
    assert {" Mb", "M", " new", "new", " New", " y", "ork"} <= listed
    assert count_own_words(folder, [], []) is None


def test_a_missing_vocabulary_is_named(exported_tiny_en, tmp_path):
    folder = replace(ModelFolder.open(exported_tiny_en), path=tmp_path)
    with pytest.raises(ModelError, match=r"vocabulary\.json\.gz: cannot be read \(No such file"):
        count_own_words(folder, ["the zoo"], [])


def test_lines_of_files_and_folders(tmp_path):
    (tmp_path / "notes" / "deep").mkdir(parents=True)
    (tmp_path / "notes" / "a.txt").write_bytes("\ufeffone\r\n\n  two \n".encode())
    (tmp_path / "notes" / "deep" / "b.MD").write_text("drei")
    (tmp_path / "notes" / "c.png").write_bytes(b"\x89PNG")
    assert list(text_lines([tmp_path / "notes"])) == ["one", "two", "drei"]
    (tmp_path / "long.txt").write_text("x" * (LONGEST_LINE + 1))
    assert [len(line) for line in text_lines([tmp_path / "long.txt"])] == [LONGEST_LINE, 1]
    (tmp_path / "list").write_text("# names\nAnna\nNew York\n")
    assert listed_words(tmp_path / "list") == ["Anna", "New York"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfeh\0i\0", r"is not UTF-8 text \(byte 0xff\); save it as UTF-8"),
        (b"a\0b", "is no text; give files of UTF-8 text"),
        (b"# only\n\n", "lists no word; write one word or phrase a line"),
    ],
)
def test_files_that_are_no_texts_are_refused(tmp_path, content, message):
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(ClipsError, match=message):
        listed_words(tmp_path / "words.txt")


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ClipsError, match="cannot be read"):
        listed_words(tmp_path / "none.txt")
    with pytest.raises(ClipsError, match=r"holds no text file \(.txt .md\)"):
        list(text_lines([tmp_path]))


@pytest.fixture
def toy(tmp_path, monkeypatch):
    folder = ModelFolder.open(toy_folder(tmp_path / "toy", scale=4))
    monkeypatch.setattr(frequencies, "LEAST_ROWS", 160)
    (tmp_path / "clips").mkdir()
    return folder, noise_clips(tmp_path / "clips", [400, 480])


def test_rows_of_own_words_get_finer_steps(toy, monkeypatch):
    folder, clips = toy
    monkeypatch.setattr(coded, "UNSEEN", 1 / 160)  # else all of so few rows are frequent
    heard = collect_stats(folder, clips, steps=True).row_factors["embed"]
    own = OwnWords({"3": 5}, [])
    mixed = collect_stats(folder, clips, steps=True, own_words=own).row_factors["embed"]
    assert mixed[3] < heard[3]
    assert (mixed[:3] > heard[:3]).all()


def test_a_small_table_cannot_tell(toy, monkeypatch):
    folder, clips = toy
    monkeypatch.setattr(frequencies, "LEAST_ROWS", 161)
    with pytest.raises(ModelError, match="no table of tokens is large enough"):
        collect_stats(folder, clips, steps=True, own_words=OwnWords({"3": 5}, []))


def test_a_plan_holds_the_counts_and_is_packed_by_them(toy, tmp_path):
    folder, clips = toy
    own = OwnWords({"3": 5}, [7])
    budget = folder.bytes // 5
    plain = Quantizer(folder, clips).plan(Recipe(), budget)
    plan = Quantizer(folder, clips, own_words=own).plan(Recipe(), budget)
    assert "own_words" not in json.loads(plain.to_bytes())
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.own_words == own
    packed = mqtool.pack(
        folder.path, plan=plan, recordings=[clip.path for clip in clips], output=tmp_path / "packed"
    )
    assert budget - 1024 < packed.bytes <= budget
    for wrong in ({"160": 1}, {"1": 0}, {"x": 1}):
        with pytest.raises(PlanError, match="own_words counts token"):
            Plan.from_json({**plan.to_json(), "own_words": {"counts": wrong, "listed": []}})
    with pytest.raises(PlanError, match="own_words lists token -1, the model has 160"):
        Plan.from_json({**plan.to_json(), "own_words": {"counts": {}, "listed": [-1]}})


def test_own_words_need_weights_with_steps_and_tokens(toy, tmp_path, exported_tiny_en):
    folder, clips = toy
    quantizer = Quantizer(folder, clips, own_words=OwnWords({"3": 5}, []))
    with pytest.raises(OptionError, match="leave --texts and --hotwords out"):
        quantizer.plan(Recipe(storage="planes"), folder.bytes // 2)
    (tmp_path / "words.txt").write_text("Anna")
    given = {"recordings": tmp_path / "clips", "texts": tmp_path, "budget_kb": 20_000}
    with pytest.raises(ModelError, match="no tokens that texts are counted by"):
        mqtool.plan(folder.path, **given)
    with pytest.raises(OptionError, match="only for coded weights of method measured"):
        mqtool.plan(exported_tiny_en, method="myqasr", **given)
