"""whisper-base with the tokens of Russian only: a third less to store, the same words."""

from dataclasses import replace

import pytest

import mqtool
from mqruntime.bundle.manifest import Manifest
from mqruntime.recognition import Recognizer
from mqruntime.vocabulary import Vocabulary
from mqtool.errors import ModelError, OptionError, PlanError
from mqtool.model.folder import ModelFolder
from mqtool.observe.runs import open_graphs
from mqtool.packing.plan_file import Plan
from mqtool.recordings.clips import find_clips

BUDGET_KB = 42_000


@pytest.fixture(scope="module")
def clips(speech):
    return find_clips([speech / "prompts" / "manifest.csv"], split="dev", language="ru")[:2]


@pytest.fixture(scope="module")
def model(exported_base, tmp_path_factory):
    """whisper-base, but that it translates where nobody asks for another task."""
    folder = tmp_path_factory.mktemp("translating")
    for path in exported_base.iterdir():
        (folder / path.name).hardlink_to(path)
    (folder / "model.json").unlink()
    manifest = Manifest.read(exported_base)
    whisper = replace(manifest.whisper, task="translate")
    (folder / "model.json").write_bytes(replace(manifest, whisper=whisper).to_bytes())
    return folder


@pytest.fixture(scope="module")
def packed(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    options = {"method": "uniform", "storage": "coded", "keep_languages": ["ru", "ru"]}
    options |= {"task": "transcribe", "output": folder / "plan.json"}
    plan = mqtool.plan(model, budget_kb=BUDGET_KB, **options)
    made = mqtool.pack(model, plan=folder / "plan.json", output=folder / "packed")
    assert made.bytes <= plan.budget_bytes
    return folder


def test_sizes_are_those_of_the_smaller_model(exported_base):
    kept = mqtool.sizes(exported_base, keep_languages=["ru"])
    left = 5577  # of 51,865 rows
    assert kept.parameters == 72_501_760 - (51_865 - left) * 512
    assert kept.smallest_kb < 7_000  # 9,822 with all


def test_it_says_the_same_and_says_what_it_was_made_for(exported_base, packed, clips):
    manifest = Manifest.read(packed / "packed")
    assert manifest.packed["keep_languages"] == ["ru"]
    assert Plan.read(packed / "plan.json").keep_languages == ["ru"]
    assert list(manifest.whisper.languages) == ["ru"]
    folder = ModelFolder.open(exported_base).keeping(["ru"])
    graphs = open_graphs(folder, lambda *_: None)
    left = Vocabulary.parse(folder.copied_files["vocabulary.json.gz"], "kept")
    with (
        Recognizer(folder.manifest, graphs, left) as kept,
        Recognizer.open(exported_base) as whole,
    ):
        for clip in clips:
            assert kept.transcribe(clip.pcm()).text == whole.transcribe(clip.pcm(), "ru").text


def test_it_passes_its_validation_in_its_languages(model, packed, clips):
    given = {"reference": model, "plan": packed / "plan.json"}
    paths = [clip.path for clip in clips]
    result = mqtool.validate(packed / "packed", recordings=paths, language="ru", **given)
    assert result.passed, result.failed
    with pytest.raises(ModelError, match="language 'fr' is not one of the model's: ru"):
        mqtool.validate(packed / "packed", recordings=paths, language="fr", **given)


def test_translations_need_english(model, packed):
    """The plan's task counts, not the model's own, where the plan names one."""
    given = {"budget_kb": BUDGET_KB, "method": "uniform", "keep_languages": ["ru"]}
    with pytest.raises(OptionError, match="translations are English"):
        mqtool.plan(model, **given)
    assert Plan.read(packed / "plan.json").task == "transcribe"
    assert Manifest.read(packed / "packed").whisper.task == "transcribe"


def test_a_model_without_languages_says_so(exported_keywords):
    with pytest.raises(ModelError, match="knows no languages; leave --keep-languages out"):
        mqtool.sizes(exported_keywords, keep_languages=["ru"])


def test_a_plan_is_for_the_languages_it_names(model, packed, tmp_path):
    other = tmp_path / "plan.json"
    text = (packed / "plan.json").read_text()
    other.write_text(text.replace('"ru"', '"el"'))
    with pytest.raises(PlanError, match=r"embed_tokens' has shape \[5577, 512\]"):
        mqtool.pack(model, plan=other, output=tmp_path / "packed")
    other.write_text(text.replace('"ru"', '"xx"'))
    with pytest.raises(ModelError, match="'xx' is not one of the model's"):
        mqtool.pack(model, plan=other, output=tmp_path / "packed")
