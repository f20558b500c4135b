# SPDX-License-Identifier: Apache-2.0
"""A word-level tokenizer with a small vocabulary of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from .instruction import check_instruction
from .types import CheckpointError

PAD, UNKNOWN, BEGIN, IMAGE = "<pad>", "<unk>", "<bos>", "<image>"
_SPECIAL = (PAD, UNKNOWN, BEGIN, IMAGE)

# Words of manipulation in English beside those of the task templates, so that later tasks need
# no new vocabulary and no new embedding table.
_WORDS = """
a above across after again against all along an and another any apart arm around at away back
ball banana base basket before behind below beside between big bin black block blocks blue board
book both bottle bottom bowl box brick bring brown brush by can carefully carry center central
chair circle clear close closest cloth coffee colour color colored container corner cube cup
cylinder dark dish disc do door down drag drawer drop each edge eight empty end every far finger
fingers first five fold four forward front from gently get give goal go grab grasp gray green
grey gripper half hand handle have held high hold hover in inside insert inside into is it item
jar keep knob large last leave left lid lift light line little long lower lowest make mark marked
middle mound mouth move near nearest next nine no not object objects of off on one onto open
orange other out outside over pan past paper pen pencil pepper pick piece pile pink place plate
please plug point poke position pot pour press pull purple push put quickly raise reach red
release remove rest return right robot roll rotate round screw second set seven shape shelf shut
side sides six slide slot slowly small sort spin spoon square stack star start stop straight
sweep switch table take tall tap target ten that the their them then these thing things third
this those three through tin to together top touch toward towards tower toy tray triangle turn
two under until up upper upright upwards use violet wall water way while white wide wipe with
without wooden yellow your zone
"""


class InstructionTokenizer:
    """Turns an instruction into ids of fixed length.

    Args:
        tokenizer: A trained ``tokenizers`` model with this module's special tokens.
        length: Number of ids per instruction.
    """

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        for token in _SPECIAL:
            if tokenizer.token_to_id(token) is None:
                raise CheckpointError(f"the tokenizer lacks the special token {token}")
        self._tokenizer = tokenizer
        self._length = length
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(
            length=length, pad_id=tokenizer.token_to_id(PAD), pad_token=PAD
        )

    @staticmethod
    def build(templates: Iterable[str], length: int = 16) -> InstructionTokenizer:
        """A tokenizer for the words of some instructions and a general set.

        Args:
            templates: Example instructions.
            length: Number of ids per instruction.
        """
        splitter = _splitter()
        words = set(_WORDS.split())
        for template in templates:
            words.update(word for word, _ in splitter.pre_tokenize_str(template.lower()))
        vocabulary = {token: i for i, token in enumerate((*_SPECIAL, *sorted(words)))}
        return InstructionTokenizer._of(vocabulary, length)

    def extended(self, templates: Iterable[str]) -> InstructionTokenizer:
        """This tokenizer with the words of more instructions; ids that exist stay as they are."""
        vocabulary = self._tokenizer.get_vocab()
        for word in sorted({word for text in templates for word in self.unknown_words(text)}):
            vocabulary[word] = len(vocabulary)
        return InstructionTokenizer._of(vocabulary, self._length)

    @staticmethod
    def _of(vocabulary: dict[str, int], length: int) -> InstructionTokenizer:
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()]
        )
        tokenizer.pre_tokenizer = _splitter()
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", special_tokens=[(BEGIN, vocabulary[BEGIN])]
        )
        return InstructionTokenizer(tokenizer, length)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def image_token_id(self) -> int:
        """Id of the image placeholder."""
        identity = self._tokenizer.token_to_id(IMAGE)
        if identity is None:
            raise CheckpointError(f"the tokenizer lacks the special token {IMAGE}")
        return int(identity)

    @property
    def length(self) -> int:
        """Ids per instruction."""
        return self._length

    def encode(self, instruction: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Ids (length,) and their validity (length,) of an instruction.

        Raises:
            ValueError: If the instruction has no words, or more than can be read: cut off behind a
                "not", it would mean something else.
        """
        check_instruction(instruction)
        encoding = self._tokenizer.encode(instruction)
        if encoding.overflowing:
            raise ValueError(
                f"the instruction {instruction!r} is too long: this policy reads "
                f"{self._length - 1} words and marks"
            )
        return (
            np.asarray(encoding.ids, dtype=np.int64),
            np.asarray(encoding.attention_mask, dtype=np.bool_),
        )

    def unknown_words(self, instruction: str) -> list[str]:
        """Words of an instruction that the vocabulary lacks."""
        pieces = _splitter().pre_tokenize_str(instruction.lower())
        return [word for word, _ in pieces if self._tokenizer.token_to_id(word) is None]

    def save(self, path: Path) -> None:
        """Writes the tokenizer as JSON."""
        self._tokenizer.save(str(path))

    @staticmethod
    def load(path: Path, length: int) -> InstructionTokenizer:
        """Reads ``save``'s file.

        Raises:
            CheckpointError: If the file is missing or no tokenizer.
        """
        if not path.is_file():
            raise CheckpointError(f"the tokenizer is missing: {path}")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path} is not a tokenizer: {error}") from error
        return InstructionTokenizer(tokenizer, length)


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
