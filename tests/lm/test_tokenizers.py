"""The subject's last token and the object's tokens, in every kind of tokenizer that a decoder comes with."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kbsync.errors import ModelError
from kbsync.facts import Prompt
from kbsync.lm.rows import Encoder
from tests.tiny import tiny_tokenizer

TEXT = (
    "The capital of France is Paris, and the capital of Germany is Berlin.",
    "Marie Curie's occupation is physicist. L'Aquila, St. John's and Łódź are cities; Αθήνα speaks Greek.",
    "What is the capital of Japan (東京)? They said: “Tokyo”, of course. Is it so? It is so; who said it?",
) * 3
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _unigram() -> PreTrainedTokenizerFast:
    """Pieces of words with their space in front, as T5's and XLNet's files have them; what is unknown is one."""
    words = sorted({f"▁{word}" for text in TEXT for word in text.split()})
    letters = sorted({letter for text in TEXT for letter in text} | {"▁"})
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(word, -6.0) for word in words] + [(letter, -9.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _fast(tokenizer)


def _byte_fallback() -> PreTrainedTokenizerFast:
    """Merges over characters, and bytes for those that it has none for, as in Llama 2's and Mistral's files."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *BYTES], limit_alphabet=40, show_progress=False
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # no piece reaches over a space
    tokenizer.train_from_iterator(TEXT, trainer)
    template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.post_processor = template
    return _fast(tokenizer)


def _wordpiece() -> PreTrainedTokenizerFast:
    """Words and their continuations, lower case, spaces not kept."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return _fast(tokenizer)


def _words() -> PreTrainedTokenizerFast:
    """Whole words between spaces: the coarsest there is."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(TEXT, trainers.WordLevelTrainer(special_tokens=["<unk>", "<s>", "</s>"]))
    return _fast(tokenizer)


TOKENIZERS = {
    "byte-level": tiny_tokenizer(),
    "byte-level, trimmed": tiny_tokenizer(trim_offsets=True),
    "unigram": _unigram(),
    "byte fallback": _byte_fallback(),
    "wordpiece": _wordpiece(),
    "words": _words(),
}
LOSSLESS = ("byte-level", "byte-level, trimmed", "byte fallback")
TEMPLATES = ("The capital of {} is", "{} speaks", "Is “{}”, they said,", "Of {}", "{}'s capital is", "({}) is in")
SUBJECTS = ("France", "Αθήνα", "東京都", "محمد", "Łódź", "L'Aquila", "Yahoo!", "St. John's.", "{0}", "🇫🇷", "é", "A",
            "the", "Ivory Coast's", "Ⅷ", "ﬁn", "İzmir", "ß")  # fmt: skip
LABELS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")),
    min_size=1,
    max_size=12,
).filter(lambda text: text.strip() == text and "▁" not in text)


def check(name: str, template: str, subject: str, target: str, prefix: str = "") -> None:
    """The subject's last token overlaps the label and no later one does; the object's tokens are all that overlap
    the object, and its text where the tokenizer loses none."""
    made = Encoder(TOKENIZERS[name])
    if made.holds_special(subject) or made.holds_special(target):
        return
    prompt = Prompt.fill(template, subject)
    try:
        row = made.plain(prompt, target, prefix=prefix)
    except ModelError as error:  # a normaliser that drops every letter of a label leaves nothing to edit
        if name in LOSSLESS or "gives no token for the subject" not in str(error):
            raise
        return
    text = f"{prefix}{prompt.text}"
    encoded = made.tokenizer(f"{text} {target}", add_special_tokens=False, return_offsets_mapping=True)
    head = int(made.bos_id is not None)
    assert list(row.ids[head:]) == encoded.input_ids
    offsets = encoded.offset_mapping
    start, end = len(prefix) + prompt.start, len(prefix) + prompt.end
    first, last = offsets[row.subject_first - head], offsets[row.subject_last - head]
    assert first[0] < end
    assert last[0] < end
    assert last[1] > start
    assert all(a >= end or a == b for a, b in offsets[row.subject_last - head + 1 :])
    assert row.subject_last < len(row.ids) - row.target_len
    objects = len(offsets) - row.target_len
    assert row.target_len or name not in LOSSLESS
    assert all(b > len(text) for _, b in offsets[objects:])
    assert all(b <= len(text) for _, b in offsets[:objects])
    if name in LOSSLESS:
        assert made.tokenizer.decode(row.targets).strip() == target
        said = made.tokenizer.decode(row.ids[row.subject_first : row.subject_last + 1])
        assert subject in said


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_labels_of_every_kind(name: str, template: str) -> None:
    """Other scripts, apostrophes, trailing punctuation, at the prompt's start and at its end, after a prefix."""
    for subject in SUBJECTS:
        check(name, template, subject, "Paris")
        check(name, template, subject, "Αθήνα, Greece", prefix="Because I said so. ")


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(TOKENIZERS)), template=st.sampled_from(TEMPLATES), subject=LABELS, target=LABELS)
def test_any_label(name: str, template: str, subject: str, target: str) -> None:
    """Whatever Wikidata calls a thing."""
    check(name, template, subject, target)


@pytest.mark.parametrize(
    ("name", "token"), [("byte-level", "Ġcapital"), ("unigram", "▁capital"), ("byte fallback", "▁capital")]
)
def test_an_object_that_merges_with_its_space(name: str, token: str) -> None:
    """One token with its space is the whole object."""
    made = Encoder(TOKENIZERS[name])
    row = made.plain(Prompt.fill("The word of {} is", "France"), "capital")
    assert made.tokenizer.convert_ids_to_tokens(list(row.targets)) == [token]
    assert row.first_scored == len(row.inputs) - 1


def test_a_label_that_a_tokenizer_drops() -> None:
    """A normaliser may leave nothing of an object, which the row tells, or of a subject, which has no row."""
    made = Encoder(TOKENIZERS["wordpiece"])
    assert made.plain(Prompt.fill("The capital of {} is", "France"), "\u0301").target_len == 0
    with pytest.raises(ModelError, match="no token for the subject"):
        made.plain(Prompt.fill("The capital of {} is", "\u0301"), "Paris")
