"""Everything that stages and commands work with, opened when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import structlog

from kbsync.errors import CheckpointError
from kbsync.facts import digest
from kbsync.request.catalogue import Catalogue, load_catalogue
from kbsync.request.verbalise import sentence
from kbsync.settings import CovarianceSettings, EditSettings, Settings
from kbsync.store import checkpoints, known, texts
from kbsync.store.checkpoints import Checkpoint
from kbsync.store.engine import Store, open_store
from kbsync.sync.clock import now
from kbsync.sync.progress import Progress, Silent
from kbsync.sync.watching import effective

if TYPE_CHECKING:  # torch takes seconds to import, and commands that only look never need it
    from torch import Tensor

    from kbsync.edit.adapters import Adapter
    from kbsync.edit.covariance import Covariance
    from kbsync.edit.memit import Editor
    from kbsync.lm.load import BaseModel

log = structlog.get_logger("kbsync")

_SENTENCE_TOKENS = 8  # a verbalised fact has at least about this many: enough sentences for the share


class Workbench:
    """The settings and what they name: store, catalogue, base model, editor. A context manager.

    Raises the KbsyncError of whatever can't be opened, when it is first asked for.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Progress | None = None,
        alive: Callable[[], None] | None = None,
    ) -> None:
        self.settings = settings
        self.alive = alive  # to be called whenever the work has advanced, where somebody wants to know
        self.progress: Progress = progress or Silent()
        self.sentences: list[str] | None = None  # stand in for the store's facts in C, where they are set in time
        self.follows_stream = False  # a thread of this process does, so a run need not read it
        self._perplexity: float | None = None

    def __enter__(self) -> Workbench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, if it was opened."""
        if "store" in self.__dict__:
            self.store.close()

    @cached_property
    def store(self) -> Store:
        """The database, laid out when it is empty."""
        return open_store(self.settings.store.url)

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations that are watched now: the config file's, and those that commands have added."""
        with self.store.read() as tx:
            return effective(tx, self.settings).watch.relations

    @cached_property
    def catalogue(self) -> Catalogue:
        """The relations' prompts and policies."""
        return load_catalogue(self.settings.watch.catalogue)

    @cached_property
    def base(self) -> BaseModel:
        """The base model, loaded."""
        from kbsync.lm.load import load_base

        with self.progress.stage("load model") as task:
            task.describe(self.settings.model.base)
            base = load_base(self.settings.model)
        if self.alive is not None:
            _tell_of_layers(base.model, self.alive)
        return base

    @cached_property
    def editor(self) -> Editor:
        """MEMIT on the base model, with its covariance (computed now, if it is not on disk yet)."""
        return self.editor_of(self.settings.edit)

    def editor_of(self, edit: EditSettings) -> Editor:
        """MEMIT with other settings on the base model, whose weights must be in place."""
        from kbsync.edit.adapters import Adapter, critical_layers
        from kbsync.edit.contexts import build_contexts
        from kbsync.edit.memit import Editor

        base, settings = self.base, self.settings
        adapter = Adapter(base.model)
        layers = critical_layers(adapter, edit.layers)
        covariance = self.covariance_of(adapter, layers, settings.covariance)
        contexts = build_contexts(base.model, base.encoder, edit, self._fact_sentences(settings.covariance))
        return Editor(adapter, base.encoder, contexts, layers, covariance, edit)

    def covariance_of(self, adapter: Adapter, layers: Sequence[int], wanted: CovarianceSettings) -> Covariance:
        """C of the base model, whose weights must be in place: from disk, or computed now."""
        from kbsync.edit.covariance import compute_covariance

        with self.progress.stage("covariance", wanted.tokens, "tokens") as task:
            seen = 0

            def on_tokens(done: int, total: int) -> None:
                nonlocal seen
                task.total(total)
                task.advance(done - seen)
                seen = done

            return compute_covariance(
                adapter,
                self.base.encoder,
                self.base.hash,
                layers,
                wanted,
                self.settings.model.cache,
                on_tokens,
                self._fact_sentences(wanted),
                task.describe,
            )

    def with_editor(self, editor: Editor) -> Workbench:
        """A workbench with another editor on this one's base model. It lasts as long as this one; close only this
        one."""
        other = Workbench(self.settings.model_copy(update={"edit": editor.settings}), self.progress)
        other._perplexity, other.sentences = self._perplexity, self.sentences
        other.__dict__.update(base=self.base, catalogue=self.catalogue, editor=editor)
        return other

    def _fact_sentences(self, settings: CovarianceSettings) -> list[str]:
        """Facts of the baseline in words, for the covariance and beside z: what the model must go on saying.

        They are chosen once, by their ids, and kept in the store: neither must change when labels or prompts do.
        """
        wanted = int(settings.tokens * settings.facts_share) // _SENTENCE_TOKENS
        if wanted == 0:
            return []
        if self.sentences is not None:
            return self.sentences
        with self.store.read() as tx:
            kept = texts.covariance_text(tx, wanted)
        if kept is not None:
            return kept
        with self.store.begin() as tx:
            facts = known.baseline_facts(tx, effective(tx, self.settings).watch.relations)
            facts = sorted(facts, key=lambda f: digest([f.subject, f.relation, f.value.text]))[:wanted]
            ids = {one for f in facts for one in (f.subject, f.relation, *f.value.entities)}
            labels = known.labels(tx, sorted(ids))
            said = [text for fact in facts if (text := sentence(fact, labels, self.catalogue)) is not None]
            if said:
                texts.keep_covariance_text(tx, wanted, said, now())
        return said

    @property
    def target_hash(self) -> str:
        """What every z depends on besides its request."""
        return digest({"base": self.base.hash, "settings": self.editor.target_settings})

    @property
    def weight_settings(self) -> dict[str, Any]:
        """Everything besides base model and live set that the synced weights depend on, down to the device.

        Bit for bit holds on one device, one number of threads and one release of torch.
        """
        import torch

        return {
            **self.editor.weight_settings,
            "device": str(self.base.device.type),
            "stored": self.base.stored,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    @property
    def settings_hash(self) -> str:
        """The hash of `weight_settings`, as checkpoints carry it."""
        return digest(self.weight_settings)

    def base_perplexity(self) -> float:
        """The base model's perplexity of the drift text; the model must hold the base weights."""
        from kbsync.evaluate.drift import text_perplexity

        if self._perplexity is None:
            self._perplexity = text_perplexity(self.base.model, self.base.encoder, self.settings.evaluate)
        return self._perplexity

    def live_checkpoint(self) -> Checkpoint | None:
        """The published checkpoint, or None while the base model is live."""
        with self.store.read() as tx:
            publication = checkpoints.live(tx)
        return publication.checkpoint if publication is not None else None

    def load_live(self) -> tuple[dict[str, Tensor], Checkpoint | None]:
        """Put the published model's weights into the loaded base model.

        Returns the base weights that they replaced, to put back with `apply_tensors`, and the checkpoint (None
        when the base model is live). Where its files are damaged, that is noted, and the last model before it that
        is whole answers. Raises CheckpointError when none is.
        """
        from kbsync.checkpoint.tensors import apply_tensors
        from kbsync.checkpoint.verify import read_checkpoint
        from kbsync.sync.damage import note_if_possible

        with self.store.read() as tx:
            candidates = checkpoints.servable(tx)
        first: CheckpointError | None = None
        for checkpoint in candidates:
            try:
                _, tensors = read_checkpoint(Path(checkpoint.path))
            except CheckpointError as error:
                note_if_possible(self, checkpoint, str(error))
                log.warning("a model is damaged; the one before answers", damage=str(error))
                first = first or error
                continue
            note_if_possible(self, checkpoint, None)
            return apply_tensors(self.base.model, tensors), checkpoint
        if first is not None:
            raise first
        return {}, None


def _tell_of_layers(model: Any, alive: Callable[[], None]) -> None:
    """Call `alive` after each layer that is run: one batch may take longer than anybody waits."""
    from kbsync.edit.adapters import Adapter

    def hook(*_: object) -> None:  # a function, which copies of the layers share; a method would be copied along
        alive()

    for layer in Adapter(model).layers:
        layer.register_forward_hook(hook)
