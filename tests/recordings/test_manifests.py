"""Manifests that people have already, told by their header."""

import json

import pytest
import soundfile

from mqtool.errors import ClipsError
from mqtool.recordings.clips import find_clips

COMMON_VOICE = "client_id\tpath\tsentence\tup_votes\tlocale"
OTHERS = {
    "metadata.csv": "file_name,transcription,mood\na.wav,one,x\nb/b.wav,two,y\n",
    "metadata.jsonl": '{"file_name": "a.wav", "transcription": "one"}\n'
    '{"file_name": "b/b.wav", "text": "two", "n": 1.5}\n',
    "train.json": '{"audio_filepath": "a.wav", "text": "one", "duration": 0.1, "offset": 0.0}\n\n'
    '{"audio_filepath": "b/b.wav", "text": "two", "duration": 0.1}\n',
    "semicolons.csv": '\ufeffpath;transcript;;\na.wav;one;;\n"b/b.wav";"two";;\n;;;\n',
    "tabs.tsv": "path\ttranscript\na.wav\tone\nb/b.wav\ttwo\n",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a.wav", "b/b.wav"):
        soundfile.write(tmp_path / name, [0.5] * 1600, 16000)
    return tmp_path


@pytest.mark.parametrize("name", list(OTHERS))
def test_they_are_taken_as_they_are(folder, name):
    (folder / name).write_text(OTHERS[name], encoding="utf-8")
    clips = find_clips([folder / name])
    assert [(clip.path, clip.transcript) for clip in clips] == [
        (folder / "a.wav", "one"),
        (folder / "b/b.wav", "two"),
    ]
    assert all(clip.seconds() == 0.1 for clip in clips)


def test_common_voice_is_read_without_quotes_from_its_folder(folder):
    (folder / "clips").mkdir()
    (folder / "a.wav").rename(folder / "clips" / "a.wav")
    row = 'speaker 1\ta.wav\t"Oui, dit-elle\t2\tfr\n'
    (folder / "validated.tsv").write_text(f"{COMMON_VOICE}\n{row}")
    (clip,) = find_clips([folder / "validated.tsv"], language="fr")
    assert clip.path == folder / "clips" / "a.wav"
    assert (clip.transcript, clip.speaker, clip.language) == ('"Oui, dit-elle', "speaker 1", "fr")


@pytest.mark.parametrize(("locale", "language"), [("zh-CN", "zh"), ("de", "de"), ("", None)])
def test_a_locale_is_a_language(folder, locale, language):
    (folder / "cv.tsv").write_text(f"{COMMON_VOICE}\ns\ta.wav\tx\t1\t{locale}\n")
    (clip,) = find_clips([folder / "cv.tsv"])
    assert clip.language == language


BAD = {
    "parts": (
        json.dumps({"audio_filepath": "a.wav", "offset": 1.5, "text": ""}),
        r"line 1 is a part of 'a\.wav', from 1\.5 s on; cut the parts into files",
    ),
    "again": (2 * '{"file_name": "a.wav"}\n', "line 2 has 'a.wav' again, as line 1"),
    "json": ('{"file_name": "a.wav"}\n{"file_name": ', r"line 2: Expecting value"),
    "deep": ('{"file_name": ' + "[" * 100_000, r"line 1: maximum recursion"),
    "doubled name": ('{"file_name": "a.wav", "file_name": "b"}', "line 1: a name is there twice"),
    "list": ('{"file_name": "a.wav"}\n["a.wav"]', "line 2 is no JSON object"),
    "no path": ('{"audio": "a.wav"}', "line 1 has no path"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_ones_are_refused_with_their_line(folder, name):
    content, message = BAD[name]
    (folder / "m.jsonl").write_text(content)
    with pytest.raises(ClipsError, match=message) as caught:
        find_clips([folder / "m.jsonl"])
    assert "m.jsonl: " in str(caught.value)
