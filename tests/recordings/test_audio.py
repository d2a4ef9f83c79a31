"""Every kind of recording is decoded, whole, and what cannot be is refused in one line."""

import io
import tracemalloc
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from mqtool.errors import AudioError
from mqtool.recordings import pyav
from mqtool.recordings.audio import audio_seconds, read_pcm
from mqtool.recordings.clips import CALIBRATION_LIMIT, find_clips, pcm_sha256

SECONDS = 3.0
FREQUENCY = 440


@dataclass(frozen=True)
class Kind:
    """How a recording is encoded."""

    name: str
    codec: str
    rate: int = 44100
    layout: str = "mono"
    video: bool = False
    codec_options: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


KINDS = [
    Kind("voice.m4a", "aac", 48000),
    Kind("stereo.m4a", "aac", layout="stereo"),
    Kind("fragments.mp4", "aac", options={"movflags": "empty_moov", "frag_duration": "200000"}),
    Kind("lossless.m4a", "alac"),
    Kind("raw.aac", "aac", layout="stereo"),
    Kind("call.amr", "libopencore_amrnb", 8000),
    Kind("call.3gp", "libopencore_amrnb", 8000),
    Kind("surround.mka", "ac3", 48000, "5.1"),
    Kind("eight.m4a", "alac", 48000, "7.1(wide)"),
    Kind("twelve.mka", "pcm_s16le", 48000, "12 channels"),
    Kind("chat.webm", "libopus", 48000),
    Kind("live.webm", "libopus", 48000, options={"live": "1"}),
    Kind("dictation.wma", "wmav2", codec_options={"b": "128000"}),
    Kind("integers.wv", "wavpack", 16000),
    Kind("video.mp4", "aac", 48000, "stereo", video=True),
    Kind("video.mkv", "libopus", 48000, video=True),
    Kind("video.mov", "pcm_s16le", 22050, video=True),
    Kind("video.avi", "mp2", video=True),
]


def sine(rate: int, frequency: float = FREQUENCY, seconds: float = SECONDS) -> np.ndarray:
    """A sine of amplitude a half."""
    times = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def encode(
    target: Path | io.BytesIO, kind: Kind, tracks: Sequence[np.ndarray] | None = None
) -> None:
    """Write a recording; each track is [samples] for all channels or [channels, samples]."""
    tracks = tracks or [sine(kind.rate)]
    with av.open(target, "w", format=_format(kind.name), options=kind.options) as container:
        video = _video_stream(container) if kind.video else None
        audio = [
            container.add_stream(
                kind.codec, rate=kind.rate, layout=kind.layout, options=kind.codec_options
            )
            for _ in tracks
        ]
        if video is not None:
            _encode_pictures(container, video)
        for stream, track in zip(audio, tracks, strict=True):
            channels = np.broadcast_to(track, (stream.layout.nb_channels, track.shape[-1]))
            for frame in _frames(stream, channels):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def _format(name: str) -> str | None:
    return {"aac": "adts", "m4a": "ipod", "mka": "matroska", "wma": "asf"}.get(
        name.rpartition(".")[2], name.rpartition(".")[2].replace("mkv", "matroska")
    )


def _video_stream(container):
    stream = container.add_stream("mpeg4", rate=25)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


def _encode_pictures(container, stream) -> None:
    for number in range(round(25 * SECONDS)):
        picture = np.full((64, 64, 3), number, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode(None))


def _frames(stream, samples: np.ndarray) -> list[av.AudioFrame]:
    """Frames of the sample format that the codec takes."""
    interleaved = samples.T.reshape(1, -1)
    whole = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=stream.layout.name)
    whole.sample_rate, whole.time_base, whole.pts = stream.rate, Fraction(1, stream.rate), 0
    converter = av.AudioResampler(format=stream.codec_context.format, frame_size=4096)
    return [*converter.resample(whole), *converter.resample(None)]


def encoded(kind: Kind, tracks: Sequence[np.ndarray] | None = None) -> bytes:
    """The bytes of a recording."""
    target = io.BytesIO()
    encode(target, kind, tracks)
    return target.getvalue()


def loudness(pcm: np.ndarray, frequency: float) -> float:
    """Amplitude of a frequency in the middle of a recording."""
    middle = pcm[8000:-8000]
    phases = 2j * np.pi * frequency * np.arange(len(middle)) / 16000
    return float(2 * np.abs(np.mean(middle * np.exp(-phases))))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_decoded(tmp_path, kind):
    path = tmp_path / kind.name
    encode(path, kind)
    pcm = read_pcm(path)
    assert pcm.dtype == np.float32
    assert len(pcm) / 16000 == pytest.approx(SECONDS, abs=0.1)
    assert loudness(pcm, FREQUENCY) == pytest.approx(0.5, abs=0.1 if "amr" in kind.codec else 0.02)
    assert audio_seconds(path) == pytest.approx(SECONDS, abs=0.1)
    assert find_clips([tmp_path], longest=SECONDS + 1)
    with pytest.raises(AudioError, match=r"3 s long, at most 2 s"):
        find_clips([tmp_path], longest=2)


def test_a_zip_holds_every_kind_too(tmp_path):
    (tmp_path / "clips").mkdir()
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        for kind in KINDS:
            encode(tmp_path / "clips" / kind.name, kind)
            archive.write(tmp_path / "clips" / kind.name, kind.name)
    zipped = find_clips([tmp_path / "clips.zip"], longest=CALIBRATION_LIMIT)
    assert len(zipped) == len(KINDS)
    assert pcm_sha256(zipped) == pcm_sha256(find_clips([tmp_path / "clips"]))


def test_the_first_audio_stream_is_read(tmp_path):
    tracks = [sine(48000, 440), sine(48000, 880)]
    encode(tmp_path / "two.mkv", Kind("two.mkv", "libopus", 48000, video=True), tracks)
    pcm = read_pcm(tmp_path / "two.mkv")
    assert loudness(pcm, 440) == pytest.approx(0.5, abs=0.03)
    assert loudness(pcm, 880) < 0.01


def test_channels_are_averaged():
    kind = Kind("stereo.m4a", "aac", 48000, "stereo")
    left = np.stack([sine(48000), np.zeros(round(48000 * SECONDS), np.float32)])
    pcm = read_pcm(Path("stereo.m4a"), io.BytesIO(encoded(kind, [left])))
    assert loudness(pcm, FREQUENCY) == pytest.approx(0.25, abs=0.02)


def test_lossless_samples_are_the_same_whoever_decodes_them(tmp_path):
    """FFmpeg decodes ALAC, libsndfile WAV."""
    samples = sine(16000)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="PCM_16")
    written, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    content = encoded(Kind("a.m4a", "alac", 16000), [written])
    np.testing.assert_array_equal(read_pcm(Path("a.m4a"), io.BytesIO(content)), written)
    np.testing.assert_array_equal(read_pcm(tmp_path / "a.wav"), written)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_give_what_the_whole_gives(tmp_path, rate, channels):
    """Bit by bit: as soxr resamples everything at once, and as librosa does through it."""
    import librosa  # which brings so much that collecting the tests would wait for it

    samples = np.random.default_rng(0).uniform(-1, 1, (1_100_000, channels)).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", samples, rate, subtype="FLOAT")
    pcm = read_pcm(tmp_path / "noise.wav")
    mono = samples.mean(axis=1)
    np.testing.assert_array_equal(pcm, soxr.resample(mono, rate, 16000, quality="HQ"))
    expected = librosa.resample(mono, orig_sr=rate, target_sr=16000, res_type="soxr_hq")
    length = min(len(pcm), len(expected))
    assert abs(len(pcm) - len(expected)) <= 1
    np.testing.assert_array_equal(pcm[:length], expected[:length])


@pytest.mark.parametrize("name", ["long.wav", "long.mka"])
def test_a_long_recording_is_in_memory_once(tmp_path, name):
    """Of ten minutes at 48 kHz the samples alone take 115 MB, at 16 kHz 38 MB."""
    samples = np.zeros(48000 * 600, np.float32)
    if name.endswith("wav"):
        soundfile.write(tmp_path / name, samples, 48000)
    else:
        encode(tmp_path / name, Kind(name, "pcm_s16le", 48000), [samples])
    del samples
    tracemalloc.start()
    pcm = read_pcm(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pcm) == 16000 * 600
    assert peak < 1.4 * pcm.nbytes


def test_a_declared_length_needs_no_decoding(monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pyav, "_frames", fail)
    for kind in (Kind("a.m4a", "aac"), Kind("a.webm", "libopus", 48000)):
        seconds = audio_seconds(Path(kind.name), io.BytesIO(encoded(kind)))
        assert seconds == pytest.approx(SECONDS, abs=0.1)


def test_a_length_that_is_not_declared_is_counted():
    """FFmpeg guesses it from the bit rate of the first frames, which are silent here."""
    samples = np.random.default_rng(0).uniform(-1, 1, 44100 * 20).astype(np.float32)
    samples[: 44100 * 5] = 0
    content = encoded(Kind("a.aac", "aac"), [samples])
    assert audio_seconds(Path("a.aac"), io.BytesIO(content)) == pytest.approx(20, abs=0.1)
    assert len(read_pcm(Path("a.aac"), io.BytesIO(content))) / 16000 == pytest.approx(20, abs=0.1)


def video_without_audio() -> bytes:
    """A video without an audio stream."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        _encode_pictures(container, _video_stream(container))
    return target.getvalue()


def half(content: bytes) -> bytes:
    """A recording that was not copied to its end."""
    return content[: len(content) // 2]


def damaged(content: bytes) -> bytes:
    """A recording with its middle overwritten."""
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


INDEX_FIRST = {"movflags": "empty_moov"}
ENCRYPTED = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "01" * 16,
    "encryption_kid": "02" * 16,
}
BAD = {
    "video.mp4": (video_without_audio, "has no audio stream"),
    "no_index.m4a": (lambda: half(encoded(Kind("a.m4a", "aac"))), "is not a readable recording"),
    "short.mp4": (
        lambda: half(encoded(Kind("a.mp4", "aac", options=INDEX_FIRST))),
        r"is damaged or cut short after 1\.\d s",
    ),
    "short.aac": (
        lambda: half(encoded(Kind("a.aac", "aac"))),
        r"is damaged or cut short after 1\.",
    ),
    "short.amr": (
        lambda: encoded(Kind("a.amr", "libopencore_amrnb", 8000))[:-7],
        r"is damaged or cut short after 3\.0 s",
    ),
    "short.webm": (
        lambda: half(encoded(Kind("a.webm", "libopus", 48000))),
        r"is cut short, it ends after 1\.\d of 3\.0 s",
    ),
    "damaged.aac": (
        lambda: damaged(encoded(Kind("a.aac", "aac"))),
        r"is damaged or cut short after 1\.0 s",
    ),
    "encrypted.mp4": (
        lambda: encoded(Kind("a.mp4", "aac", options=ENCRYPTED)),
        "is encrypted; give a copy",
    ),
    "codec.mka": (
        lambda: encoded(Kind("a.mka", "ac3", 48000)).replace(b"A_AC3", b"A_XY3"),
        "has audio of an unknown codec",
    ),
    "change.aac": (
        lambda: encoded(Kind("a.aac", "aac", 44100)) + encoded(Kind("a.aac", "aac", 48000)),
        "changes its rate or channels midway",
    ),
    "text.m4a": (
        lambda: b"Dear diary, this is not a recording.\n" * 50,
        "not a readable recording",
    ),
    "text.amr": (lambda: b"Dear diary", "not a readable recording"),
    "samples.raw": (lambda: bytes(1000), "not a readable recording|has no audio stream"),
    "zeros.mkv": (lambda: bytes(1000), "not a readable recording"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_recordings_are_refused_in_one_line(tmp_path, capfd, name):
    content, message = BAD[name][0](), BAD[name][1]
    path = tmp_path / name
    path.write_bytes(content)
    for given in (None, io.BytesIO(content)):
        with pytest.raises(AudioError, match=message) as caught:
            read_pcm(path, given)
        text = str(caught.value)
        assert text.startswith(f"{path}: ")
        assert ";" in text
        assert "\n" not in text
    assert path.read_bytes() == content
    assert capfd.readouterr() == ("", "")


def test_a_playlist_opens_no_other_file(tmp_path, monkeypatch):
    encode(tmp_path / "private.aac", Kind("private.aac", "aac"))
    (tmp_path / "clip.m4a").write_text("ffconcat version 1.0\nfile private.aac\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match=r"clip\.m4a: is not a readable recording"):
        read_pcm(Path("clip.m4a"))


def test_tags_in_another_encoding_do_no_harm():
    content = encoded(Kind("a.mka", "ac3", 48000)).replace(b"Lavf", b"\xff\xfe\xe9\xe9")
    assert len(read_pcm(Path("a.mka"), io.BytesIO(content)))


def test_damage_at_random_never_leaves_a_traceback():
    rng = np.random.default_rng(0)
    contents = [encoded(kind, [sine(kind.rate, seconds=0.3)]) for kind in KINDS if not kind.video]
    refusals = []
    for number in range(120):
        content = bytearray(contents[number % len(contents)])
        for position in rng.integers(0, len(content), 20):
            content[position] = rng.integers(256)
        try:
            read_pcm(Path("damaged"), io.BytesIO(content[: rng.integers(1, len(content) + 1)]))
        except AudioError as error:
            refusals.append(str(error))
    assert len(refusals) > 60
    assert not any("\n" in text for text in refusals)
