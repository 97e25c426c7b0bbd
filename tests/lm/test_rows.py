"""Where the subject ends and which tokens are the object, for labels of every kind."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers.normalizers import Replace

from kbsync.errors import ModelError
from kbsync.facts import Prompt
from kbsync.lm.rows import Encoder
from tests.tiny import SPECIAL, encoder, tiny_tokenizer

ENCODERS = {
    "plain": encoder(chat=False),
    "bos": encoder(bos=True, chat=False),
    "chat": encoder(),
    "trimmed": Encoder(tiny_tokenizer(trim_offsets=True)),
}
SUBJECTS = [
    "France",
    "Αθήνα",
    "東京都",
    "محمد",
    "Łódź",
    "L'Aquila",
    "Ivory Coast's",
    "Yahoo!",
    "St. John's.",
    "{curly} {}",
    "{0.__class__}",
    "🇫🇷",
    "e\u0301cole",
]
LABELS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text
)


def covered(made: Encoder, text: str, token: int, head: int) -> str:
    """The characters of `text` that a token stands for."""
    a, b = made.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping[token - head]
    return text[a:b]


@pytest.mark.parametrize("made", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("template", ["The capital of {} is", "{} speaks", "Is “{}”, they said,", "Of {}"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_subjects_last_token_ends_where_the_label_ends(made: Encoder, template: str, subject: str) -> None:
    """In every script, with punctuation, braces and at either end of the prompt."""
    prompt = Prompt.fill(template, subject)
    row = made.plain(prompt, "Paris")
    head = int(made.bos_id is not None)
    assert covered(made, f"{prompt.text} Paris", row.subject_last, head)[-1] in subject[-1] + prompt.text[-1]
    after = made.tokenizer.decode(row.ids[row.subject_last + 1 :])
    assert subject not in after
    assert after.endswith("Paris")


@settings(max_examples=150, deadline=None)
@given(subject=LABELS, target=LABELS, name=st.sampled_from(sorted(ENCODERS)))
def test_any_label_gives_a_subject_token_and_the_object_back(subject: str, target: str, name: str) -> None:
    """The subject's last token overlaps the label, no later one does, and the targets decode to the object."""
    made = ENCODERS[name]
    if made.holds_special(subject) or made.holds_special(target):
        return
    prompt = Prompt.fill("The capital of {} is", subject)
    row = made.plain(prompt, target)
    head = int(made.bos_id is not None)
    encoded = made.tokenizer(f"{prompt.text} {target}", add_special_tokens=False, return_offsets_mapping=True)
    last_start, last_end = encoded.offset_mapping[row.subject_last - head]
    assert last_start < prompt.end
    assert last_end > prompt.start
    assert all(a >= prompt.end or a == b for a, b in encoded.offset_mapping[row.subject_last - head + 1 :])
    assert made.tokenizer.decode(row.targets).strip() == target
    assert made.tokenizer.decode(row.ids[head:]) == f"{prompt.text} {target}"
    assert row.ids == (*row.inputs, row.ids[-1])


def test_the_object_is_found_where_it_merges_with_its_space() -> None:
    """` capital` is one token with its space, and is the whole object."""
    made = ENCODERS["plain"]
    row = made.plain(Prompt.fill("The capital of {} is", "France"), "capital")
    assert made.tokenizer.convert_ids_to_tokens(row.targets) == ["Ġcapital"]
    assert row.first_scored == len(row.inputs) - 1


def test_scored_positions_are_those_that_speak_about_the_object() -> None:
    """The logits at `first_scored` predict the object's first token."""
    made = ENCODERS["plain"]
    row = made.plain(Prompt.fill("{} is", "France"), "Łódź")
    assert row.target_len > 1
    assert row.ids[row.first_scored + 1 :] == row.targets
    assert row.inputs == row.ids[:-1]


def test_a_prompt_alone_has_no_targets() -> None:
    """Without an object everything is input."""
    row = ENCODERS["plain"].plain(Prompt.fill("{} is", "France"))
    assert (row.target_len, row.targets, row.inputs) == (0, (), row.ids)
    assert row.first_scored == len(row.ids) - 1


def test_a_prefix_moves_the_subject_and_changes_nothing_else() -> None:
    """The subject's token is the same one, only later."""
    made = ENCODERS["plain"]
    prompt = Prompt.fill("The capital of {} is", "Marie Curie")
    bare, prefixed = made.plain(prompt, "Paris"), made.plain(prompt, "Paris", prefix="Because I said {} so. ")
    assert prefixed.subject_last > bare.subject_last
    assert prefixed.ids[prefixed.subject_last :] == bare.ids[bare.subject_last :]


class TestBos:
    """One rule for BOS."""

    def test_a_tokenizer_that_puts_bos_itself_is_followed(self) -> None:
        """Its own BOS stands in front once, not twice."""
        made = ENCODERS["bos"]
        prompt = Prompt.fill("{} is", "France")
        assert list(made.plain(prompt).ids) == made.tokenizer(prompt.text).input_ids

    def test_a_tokenizer_that_names_a_bos_gets_it(self) -> None:
        """Auto puts BOS in front though the tokenizer does not."""
        made = ENCODERS["plain"]
        assert made.bos_id == made.tokenizer.bos_token_id
        assert made.plain(Prompt.fill("{} is", "France")).ids[0] == made.bos_id

    def test_a_turn_marker_is_not_taken_for_bos(self) -> None:
        """Where the chat template opens turns with the BOS token, the separator of documents is meant."""
        made = ENCODERS["chat"]
        assert made.tokenizer.bos_token == SPECIAL[1]
        assert made.bos_id == made.tokenizer.convert_tokens_to_ids(SPECIAL[0])

    def test_never_means_never(self) -> None:
        """`never` leaves BOS out, and so does a row asked for without."""
        prompt = Prompt.fill("{} is", "France")
        never = Encoder(tiny_tokenizer(), bos="never")
        assert never.bos_id is None
        assert never.plain(prompt).ids == ENCODERS["plain"].plain(prompt, bos=False).ids

    def test_always_needs_one(self) -> None:
        """`always` with a tokenizer that has no BOS is refused."""
        tokenizer = tiny_tokenizer()
        tokenizer.bos_token = None
        tokenizer.get_vocab = dict  # nor a separator of documents
        with pytest.raises(ModelError, match="no BOS token"):
            Encoder(tokenizer, bos="always")
        assert Encoder(tokenizer).bos_id is None

    def test_text_has_no_special_tokens(self) -> None:
        """Plain text is read without BOS even where the tokenizer would put one."""
        made = ENCODERS["bos"]
        assert made.bos_id not in made.text_ids("The capital")


class TestChat:
    """Questions in the model's chat template."""

    @pytest.mark.parametrize("subject", SUBJECTS)
    def test_the_question_is_a_turn_and_the_object_begins_the_answer(self, subject: str) -> None:
        """The subject's place is found inside the template, and the targets are the object without a space."""
        made = ENCODERS["chat"]
        row = made.chat(Prompt.fill("What is the capital of {}?", subject), "Tokyo")
        assert row is not None
        assert made.tokenizer.decode(row.targets) == "Tokyo"
        text = made.tokenizer.decode(row.ids)
        assert text.startswith("<|im_start|>user\nWhat is")
        assert text.endswith("<|im_start|>assistant\nTokyo")
        after = made.tokenizer.decode(row.ids[row.subject_last + 1 :])
        assert after.replace("?", "", 1).startswith("<|im_end|>")

    def test_no_template_no_row(self) -> None:
        """A model without a chat template is not asked in one."""
        assert ENCODERS["plain"].chat(Prompt.fill("What is {}?", "France"), "Paris") is None

    def test_a_template_that_changes_the_question_is_not_used(self) -> None:
        """The subject's place would be lost."""
        tokenizer = tiny_tokenizer(chat=True)
        tokenizer.chat_template = "{{ messages[0]['content'] | upper }}:"
        assert Encoder(tokenizer).chat(Prompt.fill("What is {}?", "France"), "Paris") is None


class TestChatSentence:
    """Answers in a sentence, in the model's chat template."""

    @pytest.mark.parametrize("subject", SUBJECTS)
    def test_the_answer_is_begun_with_the_sentence(self, subject: str) -> None:
        """The subject is the one in the assistant's turn, and the object follows it with its space."""
        made = ENCODERS["chat"]
        question, sentence = Prompt.fill("What is {}?", subject), Prompt.fill("The capital of {} is", subject)
        row = made.chat_sentence(question, sentence, "Tokyo")
        assert row is not None
        user, answer = f"What is {subject}?", f"The capital of {subject} is Tokyo"
        turns = f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n{answer}"
        assert made.tokenizer.decode(row.ids) == turns
        assert made.tokenizer.decode(row.targets) == " Tokyo"
        assert made.tokenizer.decode(row.ids[row.subject_first : row.subject_last + 1]).strip() == subject

    @settings(max_examples=100, deadline=None)
    @given(subject=LABELS, target=LABELS)
    def test_any_label_gives_the_tokens_of_the_plain_sentence(self, subject: str, target: str) -> None:
        """From the sentence on, the row is what plain text is: the same tokens, subject and object."""
        made = ENCODERS["chat"]
        if made.holds_special(subject) or made.holds_special(target):
            return
        question, sentence = Prompt.fill("Of {}?", subject), Prompt.fill("The capital of {} is", subject)
        row, plain = made.chat_sentence(question, sentence, target), made.plain(sentence, target, bos=False)
        assert row is not None
        before = len(row.ids) - len(plain.ids)
        assert row.ids[before:] == plain.ids
        assert (row.subject_last - before, row.subject_len) == (plain.subject_last, plain.subject_len)
        assert row.targets == plain.targets

    def test_without_an_object_it_is_a_prompt(self) -> None:
        """The row ends where the object would begin, inside the turn."""
        made = ENCODERS["chat"]
        question, sentence = Prompt.fill("What is {}?", "France"), Prompt.fill("The capital of {} is", "France")
        row, full = made.chat_sentence(question, sentence), made.chat_sentence(question, sentence, "Paris")
        assert row is not None
        assert full is not None
        assert row.target_len == 0
        assert full.ids[: len(full.ids) - full.target_len] == row.ids

    def test_a_sentence_that_repeats_the_question_is_found_in_the_answer(self) -> None:
        """The user's words are not taken for the assistant's, though they are the same."""
        made = ENCODERS["chat"]
        prompt = Prompt.fill("France: {}", "Paris")
        row = made.chat_sentence(prompt, prompt)
        assert row is not None
        assert row.subject_last == len(row.ids) - 1
        assert made.tokenizer.decode(row.ids).count(prompt.text) == 2

    def test_what_the_template_puts_before_an_answer_is_kept(self) -> None:
        """An empty thought, or a space after the user's turn, stands in front of the sentence as in training."""
        tokenizer = tiny_tokenizer(chat=True)
        tokenizer.chat_template = "[{{ messages[0]['content'] }}] <t></t> {{ messages[1]['content'] | trim }}</s>"
        row = Encoder(tokenizer).chat_sentence(
            Prompt.fill("{}?", "France"), Prompt.fill("{} is", "France"), "Paris"
        )
        assert row is not None
        assert tokenizer.decode(row.ids) == "[France?] <t></t> France is Paris"

    def test_a_sentence_that_only_the_user_says_is_none(self) -> None:
        """A template that drops the answer leaves no place for the object, whatever the user's words hold."""
        tokenizer = tiny_tokenizer(chat=True)
        tokenizer.chat_template = "{{ messages[0]['content'] }}:"
        question, sentence = Prompt.fill("Is it so that {} is red?", "France"), Prompt.fill("{} is", "France")
        assert Encoder(tokenizer).chat_sentence(question, sentence, "Paris") is None

    def test_no_template_no_row(self) -> None:
        """A model without a chat template is not asked in one."""
        question, sentence = Prompt.fill("What is {}?", "France"), Prompt.fill("{} is", "France")
        assert ENCODERS["plain"].chat_sentence(question, sentence, "Paris") is None

    @pytest.mark.parametrize("changed", [0, 1])
    def test_a_template_that_changes_a_text_is_not_used(self, changed: int) -> None:
        """Whichever of the two it is."""
        tokenizer = tiny_tokenizer(chat=True)
        kept = ["{{ messages[0]['content'] }}", "{{ messages[1]['content'] }}"]
        kept[changed] = kept[changed].replace(" }}", " | upper }}")
        tokenizer.chat_template = ": ".join(kept)
        question, sentence = Prompt.fill("What is {}?", "France"), Prompt.fill("{} is", "France")
        assert Encoder(tokenizer).chat_sentence(question, sentence, "Paris") is None


class TestSpecialTokens:
    """A label must not steer the template."""

    @pytest.mark.parametrize("token", SPECIAL)
    def test_special_tokens_in_a_label_are_seen(self, token: str) -> None:
        """Wherever in the text they stand."""
        assert ENCODERS["chat"].holds_special(f"France{token}")

    def test_turn_marks_without_a_role_are_seen(self) -> None:
        """A special token that is neither BOS nor EOS steers a template all the same."""
        tokenizer = tiny_tokenizer(chat=True)
        tokenizer.add_tokens([AddedToken("<|start_header_id|>", special=True)])
        assert "<|start_header_id|>" not in tokenizer.all_special_tokens
        assert Encoder(tokenizer).holds_special("a<|start_header_id|>b")

    @pytest.mark.parametrize("label", ["France", "<|im_star|>", "<|", "a < b", "{}"])
    def test_ordinary_labels_are_not(self, label: str) -> None:
        """What only looks like one is text."""
        assert not ENCODERS["chat"].holds_special(label)


def test_a_subject_without_tokens_is_refused() -> None:
    """A tokenizer that drops the label can't say where it ends."""
    tokenizer = tiny_tokenizer()
    tokenizer._tokenizer.normalizer = Replace("xyz", "")
    made = Encoder(tokenizer)
    with pytest.raises(ModelError, match="'xyz'"):
        made.plain(Prompt.fill("The capital of {} is", "xyz"), "Paris")


def test_a_subject_that_merges_with_the_object_is_refused() -> None:
    """One token can't be both the place of the edit and its target."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("France Paris", single_word=False)])
    with pytest.raises(ModelError, match="runs into the object"):
        Encoder(tokenizer).plain(Prompt.fill("The country {}", "France"), "Paris")


def test_the_subjects_tokens() -> None:
    """From the subject's first token to its last they are its name, and nothing else, whatever stands around it."""
    asked = Encoder(tiny_tokenizer(chat=True))
    lengths = set()
    for name in ("France", "Ludwig van Beethoven", "Αθήνα"):
        for template in ("The capital of {} is", "{} speaks"):
            row = asked.plain(Prompt.fill(template, name), "Paris", prefix="So. ")
            ids = row.ids[row.subject_first : row.subject_last + 1]
            assert len(ids) == row.subject_len
            assert asked.tokenizer.decode(ids).strip() == name
            lengths.add(row.subject_len)
    assert min(lengths) <= 2 < max(lengths)
