"""The decoding loop on toy graphs whose answers can be worked out by hand."""

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import parser

from mqruntime.bundle.manifest import Manifest, WhisperSettings
from mqruntime.engine.session import Session
from mqruntime.errors import AudioError, ModelError
from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.vocabulary import Vocabulary

VOCABULARY = 12
SOT, EOT, NO_TIMESTAMPS, EN, DE, TRANSCRIBE = 6, 7, 8, 9, 10, 11

# cross_key is the first sample of the window; cross_value is unused but must be carried along.
ENCODER = """<ir_version: 10, opset_import: ["": 21]>
encoder (float[b, s] pcm) => (float[b, 1, f, 1] cross_key_0, float[b, 1, f, 1] cross_value_0)
<int64[1] zero = {0}, int64[1] one = {1}, int64[4] shape = {0, 1, 1, 1}> {
  first = Slice (pcm, zero, one, one)
  cross_key_0 = Reshape (first, shape)
  cross_value_0 = Neg (cross_key_0)
}"""

# Every token t adds t to the cache. The likeliest next token is (sum of all tokens so far,
# this one included, + cross_key) modulo 6: the sum is right only if the cache is fed back.
DECODER = """<ir_version: 10, opset_import: ["": 21]>
decoder (int64[b, n] tokens, float[b, 1, p, 1] past_key_0, float[b, 1, p, 1] past_value_0,
         float[b, 1, f, 1] cross_key_0, float[b, 1, f, 1] cross_value_0)
  => (float[b, n, 12] logits, float[b, 1, q, 1] present_key_0, float[b, 1, q, 1] present_value_0)
<int64[4] new_shape = {0, 1, -1, 1}, int64[3] sum_shape = {0, -1, 1}, int64 two = {2},
 int64[3] cross_shape = {0, 1, 1}, float six = {6.0}, int64[1] axis = {2},
 float[12] ids = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, int64 depth = {12}> {
  values = Cast <to = 1> (tokens)
  new = Reshape (values, new_shape)
  present_key_0 = Concat <axis = 2> (past_key_0, new)
  present_value_0 = Concat <axis = 2> (past_value_0, new)
  past_sum = ReduceSum <keepdims = 1> (past_key_0, axis)
  new_sum = CumSum (new, two)
  total = Add (new_sum, past_sum)
  flat = Reshape (total, sum_shape)
  cross = Reshape (cross_key_0, cross_shape)
  shifted = Add (flat, cross)
  wanted = Mod <fmod = 1> (shifted, six)
  distance = Sub (ids, wanted)
  absolute = Abs (distance)
  logits = Neg (absolute)
}"""


def settings(**changes: object) -> WhisperSettings:
    fields: dict[str, object] = {
        "window": 960,
        "max_tokens": 10,
        "start_of_transcript": SOT,
        "end_of_text": EOT,
        "no_timestamps": NO_TIMESTAMPS,
        "timestamp_begin": VOCABULARY,
        "no_speech": None,
        "transcribe": None,
        "translate": None,
        "languages": {},
        "suppress": [],
        "suppress_at_begin": [],
    }
    return WhisperSettings(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def graphs(tmp_path) -> tuple[Session, Session]:
    for name, text in (("encoder", ENCODER), ("decoder", DECODER)):
        model = parser.parse_model(text)
        onnx.checker.check_model(model)
        onnx.save(model, tmp_path / f"{name}.onnx")
    return Session(tmp_path / "encoder.onnx"), Session(tmp_path / "decoder.onnx")


def expected(cross: float, prompt: list[int], limit: int, suppress: list[int] = ()) -> list[int]:
    """The same rule in plain Python."""
    tokens: list[int] = []
    while len(prompt) + len(tokens) < limit:
        wanted = (sum(prompt) + sum(tokens) + cross) % 6
        candidates = [t for t in range(VOCABULARY) if t not in suppress]
        tokens.append(min(candidates, key=lambda t: abs(t - wanted)))
    return tokens


class Watched:
    """Counts the tokens of each call and passes it on."""

    def __init__(self, graph: Session) -> None:
        self.graph = graph
        self.lengths: list[tuple[int, int]] = []

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.lengths.append((feeds["tokens"].shape[1], feeds["past_key_0"].shape[2]))
        return {**self.graph.run(feeds), "extra": np.zeros(1)}


def test_loop_feeds_the_cache_back_one_token_at_a_time(graphs):
    encoder, decoder = graphs
    pcm = np.full(960, 2.0, np.float32)
    cross = whisper.encode(encoder, settings(), pcm)
    watched = Watched(decoder)
    tokens = whisper.generate(watched, settings(), cross, [SOT, NO_TIMESTAMPS])
    assert tokens == expected(2.0, [SOT, NO_TIMESTAMPS], 10)
    assert watched.lengths == [(2, 0), *((1, past) for past in range(2, 9))]


def test_loop_stops_when_prompt_and_tokens_fill_the_positions(graphs):
    encoder, decoder = graphs
    cross = whisper.encode(encoder, settings(), np.ones(3, np.float32))
    for limit in (2, 3, 7):
        tokens = whisper.generate(decoder, settings(max_tokens=limit), cross, [SOT, NO_TIMESTAMPS])
        assert len(tokens) == limit - 2


def test_loop_stops_at_end_of_text(graphs):
    encoder, decoder = graphs
    # 14 + 4 = 18, so token 0 is wanted first; then 0 again for ever. Make 0 the end.
    cross = whisper.encode(encoder, settings(), np.full(3, 4.0, np.float32))
    assert whisper.generate(decoder, settings(end_of_text=0), cross, [SOT, NO_TIMESTAMPS]) == []
    # Not allowed as the first token, it comes second: 14 + 4 + 1 = 19, wanted 1; 20, wanted 2...
    only_later = settings(end_of_text=0, suppress_at_begin=[0])
    first = whisper.generate(decoder, only_later, cross, [SOT, NO_TIMESTAMPS])
    assert first[:2] == [1, 1]


def test_suppressed_tokens_never_come(graphs):
    encoder, decoder = graphs
    cross = whisper.encode(encoder, settings(), np.full(3, 2.0, np.float32))
    changed = settings(suppress=[2, 4])
    tokens = whisper.generate(decoder, changed, cross, [SOT, NO_TIMESTAMPS])
    assert tokens == expected(2.0, [SOT, NO_TIMESTAMPS], 10, [2, 4])
    assert {2, 4} & set(expected(2.0, [SOT, NO_TIMESTAMPS], 10))


def test_forced_logits_agree_with_the_loop(graphs):
    encoder, decoder = graphs
    pcm = np.full(100, 3.0, np.float32)
    prompt = [SOT, NO_TIMESTAMPS]
    tokens = whisper.generate(decoder, settings(), whisper.encode(encoder, settings(), pcm), prompt)
    logits = whisper.forced_logits(encoder, decoder, settings(), pcm, tokens, prompt)
    assert logits.shape == (len(tokens) + 1, VOCABULARY)
    assert logits.argmax(axis=1)[:-1].tolist() == tokens


def test_prompts():
    assert whisper.prompt_tokens(settings(), None) == [SOT, NO_TIMESTAMPS]
    multilingual = settings(languages={"en": EN, "de": DE}, transcribe=TRANSCRIBE)
    assert whisper.prompt_tokens(multilingual, "de") == [SOT, DE, TRANSCRIBE, NO_TIMESTAMPS]
    with pytest.raises(ModelError, match=r"language 'xx' is not one of the model's: de en"):
        whisper.prompt_tokens(multilingual, "xx")


def test_language_is_the_best_language_token(graphs):
    encoder, decoder = graphs
    languages = settings(languages={"en": EN, "de": DE, "fr": 3}, transcribe=TRANSCRIBE)
    # After SOT (6) the wanted value is 6 + 3.4 modulo 6: token 3 is nearest of the three.
    cross = whisper.encode(encoder, languages, np.full(3, 3.4, np.float32))
    assert whisper.detect_language(decoder, languages, cross) == "fr"


def recognizer(graphs: tuple[Session, Session], **changes: object) -> Recognizer:
    manifest = Manifest(
        family="whisper",
        task="transcribe",
        sample_rate=16000,
        graphs={"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
        vocabulary="vocabulary.json.gz",
        whisper=settings(**changes),
    )
    tokens = ["a", "b", "c", "Ġ", "Ã", "©", "<sot>", "<eot>", "<nt>", "<en>", "<de>", "<tr>"]
    encoder, decoder = graphs
    graph_of_role = {"encoder": encoder, "decoder": decoder}
    return Recognizer(manifest, graph_of_role, Vocabulary(tokens))


def test_long_audio_is_cut_into_windows(graphs):
    pcm = np.concatenate([np.full(960, 2.0), np.full(10, 3.0)]).astype(np.float32)
    result = recognizer(graphs).transcribe(pcm, options=DecodingOptions(timestamps=False))
    prompt = [SOT, NO_TIMESTAMPS]
    assert result.tokens == expected(2.0, prompt, 10) + expected(3.0, prompt, 10)
    assert result.seconds == 970 / 16000
    assert set(result.timings) == {"encoder", "decoder"}


@pytest.mark.parametrize(
    ("pcm", "message"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((2, 10), np.float32), "mono"),
        (np.zeros(10, np.int16), "float"),
        (np.array([0, np.nan], np.float32), "NaN"),
        (np.array([0, np.inf], np.float32), "infinite"),
    ],
)
def test_unusable_pcm_is_refused(graphs, pcm, message):
    with pytest.raises(AudioError, match=message):
        recognizer(graphs).transcribe(pcm)


def test_english_only_model_refuses_other_languages(graphs):
    with pytest.raises(ModelError, match="English only"):
        recognizer(graphs).transcribe(np.zeros(10, np.float32), "de")


def test_closed_recognizer_says_so(graphs):
    opened = recognizer(graphs)
    opened.close()
    with pytest.raises(ModelError, match="closed"):
        opened.transcribe(np.zeros(10, np.float32))
