"""Finding and reading recordings, good and bad."""

import hashlib
import tracemalloc
import zipfile

import numpy as np
import pytest
import soundfile

from mqtool.errors import AudioError, ClipsError
from mqtool.recordings import clips_zip
from mqtool.recordings.audio import read_pcm
from mqtool.recordings.clips import CALIBRATION_LIMIT, find_clips, pcm_sha256


@pytest.fixture
def tone() -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)


def test_folder_is_searched_recursively_and_sorted(tmp_path, tone):
    for name in ("b.wav", "a/z.FLAC", "a/b/c.ogg", ".hidden.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(tmp_path / name, tone, 16000)
    (tmp_path / "notes.txt").write_text("not audio")
    found = [clip.path.relative_to(tmp_path).as_posix() for clip in find_clips([tmp_path])]
    assert found == ["a/b/c.ogg", "a/z.FLAC", "b.wav"]


@pytest.mark.data
def test_manifest_rows_are_selected(speech):
    manifest = speech / "prompts" / "manifest.csv"
    clips = find_clips([manifest], split="dev", language="fr")
    assert len(clips) == 40
    assert {clip.language for clip in clips} == {"fr"}
    assert all(clip.transcript and clip.path.is_file() for clip in clips)
    calib = find_clips([manifest], split="calib", group="it")
    assert len(calib) == 32
    assert all(clip.transcript is None for clip in calib)


@pytest.mark.data
def test_real_speech_is_read_bit_by_bit(speech):
    clip = find_clips([speech / "librispeech" / "manifest.csv"], split="dev")[0]
    pcm = clip.pcm()
    expected, rate = soundfile.read(clip.path, dtype="int16")
    assert rate == 16000
    assert pcm.dtype == np.float32
    np.testing.assert_array_equal(pcm * 2**15, expected)
    assert len(pcm) / rate == pytest.approx(float(clip.fields["seconds"]), abs=0.001)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 8])
def test_any_rate_and_channels_become_16_khz_mono(tmp_path, rate, channels):
    times = np.arange(rate) / rate
    sine = 0.5 * np.sin(2 * np.pi * 440 * times)
    # One loud channel, the others silent: the mean is a channel-th of it.
    samples = np.zeros((rate, channels))
    samples[:, -1] = sine
    soundfile.write(tmp_path / "clip.wav", samples, rate, subtype="FLOAT")
    pcm = read_pcm(tmp_path / "clip.wav")
    expected = 0.5 / channels * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert pcm.shape == (16000,)
    assert np.abs(pcm - expected)[200:-200].max() < 1e-3


def _bad_clips(folder):
    """The files that recordings in the wild turn out to be."""
    tone = np.zeros(1600, np.float32)
    (folder / "text.wav").write_text("this is a text file\n")
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "no_samples.wav", tone[:0], 16000)
    soundfile.write(folder / "no_samples.flac", tone[:0], 16000)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        broken = tone.copy()
        broken[7] = value
        soundfile.write(folder / f"{name}.wav", broken, 16000, subtype="FLOAT")
    (folder / "video.m4a").write_bytes(b"\0" * 100)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.wav", "no such file"),
        ("text.wav", "not a readable recording"),
        ("empty.wav", "is an empty file"),
        ("no_samples.wav", "holds no samples"),
        ("no_samples.flac", "is an empty file"),  # what libsndfile makes of no samples
        ("nan.wav", "NaN or infinite"),
        ("inf.wav", "NaN or infinite"),
        ("video.m4a", "not a readable recording"),
    ],
)
def test_bad_recordings_are_refused_in_one_line(tmp_path, name, message):
    _bad_clips(tmp_path)
    with pytest.raises(AudioError, match=message) as caught:
        read_pcm(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_hour_is_refused_before_it_is_read(tmp_path):
    hour = tmp_path / "hour.wav"
    soundfile.write(hour, np.zeros(3600 * 8000, np.int16), 8000)
    tracemalloc.start()
    with pytest.raises(AudioError, match=r"hour\.wav: 3600 s long, at most 600 s"):
        find_clips([hour], longest=CALIBRATION_LIMIT)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    assert len(find_clips([hour])) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,split\na.wav,dev\n", "no column 'path'; there is 'file', 'split'"),
        ("path\n", "a header but no rows"),
        ("", "no column 'path'"),
        ("path,split\nabsent.wav,dev\n", r"1 of 1 files are missing, the first is .*absent\.wav"),
        ("path,split\na.wav\n", "line 2 has 1 fields, not 2"),
        ("path,split\n,dev\n", "line 2 has no path"),
        (
            'path,split\n"a.wav,dev\nb.wav,dev\n',
            r"not a readable UTF-8 CSV \(unexpected end of data\)",
        ),
        ('path,split\n"a"x.wav,dev\n', "not a readable UTF-8 CSV"),
        ("path,split,path\na.wav,dev,b.wav\n", "has column 'path' twice; rename one"),
        ("path,split\na.wav,x\nb.wav,x\na.wav,x\n", "line 4 has 'a.wav' again, as line 2"),
        ("path,split\na.wav,dev,more\n", "line 2 has 3 fields, not 2"),
        (b"path\n\xff\xfe\n", "not a readable UTF-8 CSV"),
    ],
)
def test_broken_manifests_are_refused(tmp_path, content, message):
    manifest = tmp_path / "manifest.csv"
    manifest.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ClipsError, match=message):
        find_clips([manifest])


def test_a_selection_of_nothing_names_what_there_is(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone, 16000)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,split,group\na.wav,dev,F\na.wav,calib,M\n")
    with pytest.raises(ClipsError, match="no row with split 'test'; there is 'calib', 'dev'"):
        find_clips([manifest], split="test")
    with pytest.raises(ClipsError, match="no row with group 'M'; there is 'F'"):
        find_clips([manifest], split="dev", group="M")
    with pytest.raises(ClipsError, match="--split can select rows of a manifest only"):
        find_clips([tmp_path], split="dev")


def test_a_language_leaves_out_rows_that_name_another(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", tone, 16000)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,language,speaker\na.wav,fr,1\na.wav,,2\na.wav,it,3\nb.wav,fr,4\n")
    soundfile.write(tmp_path / "b.wav", tone, 16000)
    clips = find_clips([manifest], language="fr")
    assert [clip.speaker for clip in clips] == ["1", "2", "4"]
    assert [(clip.language, clip.fields["language"]) for clip in clips] == [("fr", "fr")] * 3
    assert [clip.language for clip in find_clips([manifest])] == ["fr", None, "it", "fr"]
    manifest.write_text("path,language\na.wav,fr\na.wav,it\nb.wav,fr\n")
    with pytest.raises(ClipsError, match=r"csv: no row with language 'en'; there is 'fr', 'it'$"):
        find_clips([manifest], language="en")
    manifest.write_text("path\na.wav\n")
    assert [clip.language for clip in find_clips([manifest], language="en")] == ["en"]


def test_a_language_is_taken_for_what_names_none(tmp_path, tone):
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "a.wav", tone, 16000)
    archive = _zipped(tmp_path / "clips", tmp_path / "clips.zip")
    sources = [tmp_path / "clips", archive, tmp_path / "clips" / "a.wav"]
    assert [clip.language for clip in find_clips(sources)] == [None] * 3
    assert [clip.language for clip in find_clips(sources, language="fr")] == ["fr"] * 3


def test_missing_and_empty_sources_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipsError, match="no audio files in this folder"):
        find_clips([tmp_path / "empty"])
    with pytest.raises(ClipsError, match="no such file or folder"):
        find_clips([tmp_path / "absent"])
    with pytest.raises(ClipsError, match="no clips given"):
        find_clips([])


def test_hash_is_of_samples_and_order_not_of_names_or_containers(tmp_path, tone):
    samples = (tone * 2**15).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    soundfile.write(tmp_path / "b.wav", samples[:8000], 16000)
    soundfile.write(tmp_path / "c.flac", samples, 16000)
    a, b, c = find_clips([tmp_path])
    assert pcm_sha256([a, b]) == pcm_sha256([c, b]) != pcm_sha256([b, a])
    # As documented: count, then samples.
    expected = hashlib.sha256()
    for clip in (a, b):
        pcm = clip.pcm()
        expected.update(len(pcm).to_bytes(8, "little") + pcm.astype("<f4").tobytes())
    assert pcm_sha256([a, b]) == expected.hexdigest()


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path, tone):
    soundfile.write(tmp_path / "a.wav", np.tile(tone, 20), 16000)

    def peak(count: int) -> int:
        tracemalloc.start()
        pcm_sha256(find_clips([tmp_path / "a.wav"] * count))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    peak(1)
    assert peak(40) < 1.1 * peak(4)


def _zipped(folder, archive, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(archive, "w", compression) as opened:
        for path in sorted(folder.rglob("*")):
            opened.write(path, path.relative_to(folder))
    return archive


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_is_read_as_its_folder_is(tmp_path, tone, compression):
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    soundfile.write(folder / "2.wav", tone, 16000)
    soundfile.write(folder / "more" / "1.flac", tone[:4000], 48000)
    soundfile.write(folder / ".hidden.wav", tone, 16000)
    (folder / "clips.json").write_text("{}")
    archive = _zipped(folder, tmp_path / "clips.zip", compression)
    zipped, plain = find_clips([archive], longest=600), find_clips([folder])
    assert [clip.path for clip in zipped] == [archive / "2.wav", archive / "more/1.flac"]
    assert [clip.seconds() for clip in zipped] == [1, 4000 / 48000]
    assert pcm_sha256(zipped) == pcm_sha256(plain)


def test_bad_zips_are_refused_in_one_line(tmp_path, tone, monkeypatch):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "notes.txt").write_text("not audio")
    with pytest.raises(ClipsError, match=r"empty\.zip: no audio files in this zip file"):
        find_clips([_zipped(folder, tmp_path / "empty.zip")])
    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(ClipsError, match=r"text\.zip: is not a readable zip file"):
        find_clips([tmp_path / "text.zip"])
    with pytest.raises(ClipsError, match=r"absent\.zip: no such file"):
        find_clips([tmp_path / "absent.zip"])
    with pytest.raises(ClipsError, match="--split can select rows of a manifest only"):
        find_clips([tmp_path / "text.zip"], split="dev")

    _bad_clips(folder)
    soundfile.write(folder / "long.wav", np.zeros(700 * 1000, np.int16), 1000)
    archive = _zipped(folder, tmp_path / "bad.zip")
    with pytest.raises(AudioError, match=r"long\.wav: 700 s long"):
        find_clips([_only(archive, "long.wav", tmp_path)], longest=CALIBRATION_LIMIT)
    messages = {
        "text.wav": "not a readable recording",
        "empty.wav": "is an empty file",
        "no_samples.wav": "holds no samples",
        "nan.wav": "NaN or infinite",
        "video.m4a": "not a readable recording",
    }
    found = {clip.path.name: clip for clip in find_clips([archive])}
    for name, message in messages.items():
        with pytest.raises(AudioError, match=rf"bad\.zip/{name}.*{message}") as caught:
            found[name].pcm()
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(clips_zip, "LARGEST", 1000)
    with pytest.raises(AudioError, match=r"long\.wav: 1400044 bytes, at most 1000"):
        found["long.wav"].pcm()


def _only(archive, name, tmp_path):
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(tmp_path / "one.zip", "w") as target:
        target.writestr(name, source.read(name))
    return tmp_path / "one.zip"


def test_damaged_and_encrypted_entries_are_refused(tmp_path, tone):
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "a.wav", tone, 16000)
    archive = _zipped(tmp_path / "clips", tmp_path / "clips.zip", zipfile.ZIP_STORED)
    content = archive.read_bytes()
    damaged = bytearray(content)
    damaged[1000] ^= 1
    encrypted = bytearray(content)
    encrypted[6] |= 1
    encrypted[content.index(b"PK\1\2") + 8] |= 1
    for changed, message in ((damaged, "CRC"), (encrypted, "encrypted")):
        archive.write_bytes(changed)
        (clip,) = find_clips([archive])
        with pytest.raises(AudioError, match=rf"clips\.zip/a\.wav: cannot be read .*{message}"):
            clip.pcm()
    archive.write_bytes(content)
    (clip,) = find_clips([archive])
    archive.unlink()
    with pytest.raises(AudioError, match="cannot be read"):
        clip.pcm()
