"""A float model's token table without the tokens that a person's languages are never written with.

Of whisper-base's 50,258 tokens of text 2,976 are Cyrillic; the table, which is the output head too,
is a third of the model. What stays: tokens that are no text (timestamps, and those that steer the
model, but for other languages), single bytes, so that every text can still be spelled, and tokens
all of whose characters are of the languages' scripts or, like digits and punctuation, of none.

Tokens keep their order and are numbered anew. Everything after this sees a smaller model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.bundle.manifest import Manifest
from mqruntime.bundle.whisper_settings import WhisperSettings
from mqruntime.vocabulary import Vocabulary, token_bytes
from mqtool.errors import ModelError, OptionError
from mqtool.model.layers import static_shape
from mqtool.model.scripts import script_of, scripts_of

__all__ = ["KeptTokens", "keep_languages"]


@dataclass(frozen=True)
class KeptTokens:
    """Tokens that stay, and what the model is with these.

    Attributes:
        languages: ISO codes, sorted.
        rows: int64 [kept]: ids in the whole table, ascending.
        total: how many rows that has.
        manifest: of the model with the kept tokens.
        vocabulary: bytes of its vocabulary.json.gz.
    """

    languages: tuple[str, ...]
    rows: NDArray[np.int64]
    total: int
    manifest: Manifest
    vocabulary: bytes

    def prune(self, graph: ir.Graph) -> None:
        """Take the other rows out of every tensor of a graph that has one a token."""
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or self.total not in (shape := static_shape(tensor)):
                continue
            kept = tensor.numpy().take(self.rows, axis=shape.index(self.total))
            value.const_value = ir.Tensor(np.ascontiguousarray(kept), name=value.name)
            value.shape = value.const_value.shape
        for output in graph.outputs:
            if output.shape is not None and output.shape[-1] == self.total:
                output.shape = ir.Shape([*output.shape[:-1], len(self.rows)])


def keep_languages(
    manifest: Manifest, vocabulary: Vocabulary, languages: Sequence[str]
) -> KeptTokens:
    """Choose the tokens that stay.

    Args:
        manifest: a Whisper's.
        vocabulary: its tokens, one for every row of its table.
        languages: ISO codes; at least one.

    Raises:
        ModelError: it is no Whisper, does not know a language, or translates to another.
        OptionError: a language's script is not known.
    """
    settings = manifest.whisper
    if settings is None:
        raise ModelError(
            f"a {manifest.family} model knows no languages; leave --keep-languages out"
        )
    _check_languages(settings, languages)
    scripts = frozenset[str]().union(*map(scripts_of, languages))
    others = {token for code, token in settings.languages.items() if code not in languages}
    written = _written_in(scripts, vocabulary, settings)
    total = len(vocabulary.tokens)
    rows = [
        token
        for token in range(total)
        if token not in others and (token in written or not settings.is_text(token))
    ]
    new = {token: place for place, token in enumerate(rows)}
    if "en" not in languages:
        settings = replace(settings, translate=None)
    kept = [vocabulary.tokens[token] for token in rows]
    return KeptTokens(
        tuple(sorted(set(languages))),
        np.array(rows, np.int64),
        total,
        replace(manifest, whisper=_renumbered(settings, new)),
        Vocabulary(kept).to_bytes(),
    )


def _check_languages(settings: WhisperSettings, languages: Sequence[str]) -> None:
    known = sorted(settings.languages) or ["en"]
    for language in languages:
        if language not in known:
            raise ModelError(
                f"--keep-languages: {language!r} is not one of the model's: {' '.join(known)}"
            )
    if settings.task == "translate" and "en" not in languages:
        raise OptionError("translations are English: keep the language 'en' as well")


def _written_in(
    scripts: frozenset[str], vocabulary: Vocabulary, settings: WhisperSettings
) -> frozenset[int]:
    """Tokens of text of these scripts, parts of their characters, and single bytes."""
    spelled = {
        token: token_bytes(vocabulary.tokens[token])
        for token in settings.text(range(len(vocabulary.tokens)))
    }
    written: dict[int, bytes] = {}
    fragments: dict[int, bytes] = {}
    for token, content in spelled.items():
        try:
            text = content.decode()
        except UnicodeDecodeError:
            fragments[token] = content
            continue
        if {script_of(character) for character in text} <= {None, *scripts}:
            written[token] = content
    # What a kept token is merged from has to stay: an encoder could not reach that token else.
    parts = {
        content[start:end]
        for content in written.values()
        for start in range(len(content))
        for end in range(start + 1, len(content) + 1)
    }
    single = {token for token, content in spelled.items() if len(content) == 1}
    return frozenset(written) | single | {t for t, part in fragments.items() if part in parts}


def _renumbered(settings: WhisperSettings, new: dict[int, int]) -> WhisperSettings:
    """The settings of a model whose tokens are numbered so; those that left are left out."""

    def those(tokens: Sequence[int]) -> list[int]:
        return [new[token] for token in tokens if token in new]

    def perhaps(token: int | None) -> int | None:
        return None if token is None else new[token]

    languages = {code: new[t] for code, t in settings.languages.items() if t in new}
    return replace(
        settings,
        start_of_transcript=new[settings.start_of_transcript],
        end_of_text=new[settings.end_of_text],
        no_timestamps=new[settings.no_timestamps],
        # Of a model without timestamps the first would be behind all tokens.
        timestamp_begin=new.get(settings.timestamp_begin, len(new)),
        no_speech=perhaps(settings.no_speech),
        transcribe=perhaps(settings.transcribe),
        translate=perhaps(settings.translate),
        languages=languages,
        language=next(iter(languages)) if len(languages) == 1 else None,
        suppress=those(settings.suppress),
        suppress_at_begin=those(settings.suppress_at_begin),
        words=those(settings.words),
    )
