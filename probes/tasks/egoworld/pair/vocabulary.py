"""The tiny pair's tokenizer: one token per phrase of its world, and bytes for all other text.

A Unigram model with pieces that may span words ("the red box" is one token): short sequences make
training on two CPU cores possible. Every printable ASCII character is a piece of its own and every
other byte has a fallback token, so the pair takes any text.
"""

from __future__ import annotations

import string

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from probes.tasks.egoworld.world import PLACES, THINGS, VERBS

# Here and in `phrases` the order gives the ids: a change makes every checkpoint worthless.
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>")
LETTERS = "ABCDEFGHIJ"
CHAT_TEMPLATE = (
    "{{ '<s> user:' }}{% for message in messages %}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<' + part['type'] + '>' }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' assistant:' }}{% endif %}"
)
_WORDS = """
    what does c do first last right after before is in both there it letter answer with the
    nothing happens between open closed at on and a an of to not what which where who why how many
    frame picture video text question option none yes no
""".split()
_PHRASES = (
    "what does c do",
    "what does c do right",
    "nothing happens",
    "what is in both?",
    "in both:",
    "what happens between?",
    "what happens?",
    "what is there?",
    "answer with the letter.",
    "is open at the",
    "is closed at the",
    "user:",
    "assistant:",
)


def phrases() -> list[str]:
    """Return every phrase that is a single token."""
    out = list(_PHRASES)
    out += [f"c {verb}" for verb in VERBS]
    out += [f"the {thing}" for thing in THINGS]
    out += list(PLACES) + _WORDS + list(VERBS)
    out += [word for thing in THINGS for word in thing.split()]
    out += [word for place in PLACES for word in place.split()]
    out += list(LETTERS)
    return list(dict.fromkeys(out))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer; the same one for every member."""
    pieces: list[tuple[str, float]] = [(token, 0.0) for token in SPECIAL]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    # Fewest pieces win: a phrase costs 1, a character 10.
    pieces += [(character, -10.0) for character in "▁\n" + string.printable[:95].replace(" ", "")]
    pieces += [("▁" + phrase.replace(" ", "▁"), -1.0) for phrase in phrases()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    # A letter at the start of a line gets the same token as a letter that answers: encoding adds a
    # space after every line break, and decoding removes it.
    tokenizer.normalizer = normalizers.Replace("\n", "\n ")
    # "never": a segment gets no space of its own; split=False lets a piece span words.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace("\n ", "\n"),
        ]
    )
    # Not normalised: placeholders are found before line breaks and spaces are rewritten.
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
