"""Which task a manifest names."""

from mqruntime.bundle.manifest import Manifest
from mqruntime.tasks.ctc import CtcTask
from mqruntime.tasks.keywords import KeywordsTask
from mqruntime.tasks.seq2seq import Seq2SeqTask
from mqruntime.tasks.task import Task
from mqruntime.tasks.transducer import TransducerTask
from mqruntime.tasks.whisper.task import WhisperTask
from mqruntime.vocabulary import Vocabulary

__all__ = ["TASKS", "task_of"]

TASKS: dict[str, type[WhisperTask | CtcTask | KeywordsTask | Seq2SeqTask | TransducerTask]] = {
    "transcribe": WhisperTask,
    "ctc": CtcTask,
    "keywords": KeywordsTask,
    "seq2seq": Seq2SeqTask,
    "transducer": TransducerTask,
}


def task_of(manifest: Manifest, vocabulary: Vocabulary | None = None) -> Task:
    """The task of a model.

    Args:
        manifest: the model's.
        vocabulary: the model's; without it there are tokens and no text.

    Raises:
        ManifestError: the manifest lacks what its task needs.
    """
    return TASKS[manifest.task](manifest, vocabulary)
