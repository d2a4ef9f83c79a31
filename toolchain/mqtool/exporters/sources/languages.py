"""Models with a vocabulary and an adapter a language: MMS (arXiv 2305.13516, section 4.2)."""

from pathlib import Path

from mqtool.errors import OptionError
from mqtool.exporters.sources.checks import readable_fields

__all__ = ["adapter_language", "configured_language", "target_language", "vocabulary_languages"]


def vocabulary_languages(folder: Path) -> list[str]:
    """Languages that vocab.json nests vocabularies of; none where it is one vocabulary."""
    vocabularies = readable_fields(folder / "vocab.json")
    nested = bool(vocabularies) and all(isinstance(ids, dict) for ids in vocabularies.values())
    return sorted(vocabularies) if nested else []


def target_language(folder: Path, asked: str | None) -> str | None:
    """The one whose vocabulary and adapter are taken: the caller's, else the tokenizer's.

    Returns:
        `asked` where there is one vocabulary.

    Raises:
        OptionError: neither names one that there is; the message lists those.
    """
    known = vocabulary_languages(folder)
    if not known:
        return asked
    language = asked or configured_language(folder)
    if language in known:
        return language
    named = "none is named" if language is None else f"{language!r} is not among them"
    raise OptionError(
        f"{folder / 'vocab.json'}: one vocabulary a language, {named}; give --language, one of "
        f"{' '.join(known)}"
    )


def configured_language(folder: Path) -> str | None:
    """The tokenizer's `target_lang`."""
    language = readable_fields(folder / "tokenizer_config.json").get("target_lang")
    return language if isinstance(language, str) else None


def adapter_language(folder: Path, language: str | None) -> str | None:
    """The language whose adapter has to be loaded over the weights; None if they are as they are.

    Raises:
        OptionError: there is no such adapter, and the weights are not said to hold it.
    """
    if language is None or not vocabulary_languages(folder):
        return None
    names = [path.name for path in folder.glob("adapter.*.*")]
    adapters = sorted({name.removeprefix("adapter.").rpartition(".")[0] for name in names})
    if language in adapters:
        return language
    if language == configured_language(folder):
        return None
    raise OptionError(
        f"{folder}: no adapter.{language}.safetensors; give --language, one of "
        f"{' '.join(adapters) or configured_language(folder)}"
    )
