# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_policy.tokenizer import InstructionTokenizer
from vla_policy.types import CheckpointError


def test_colours_get_different_ids(tokenizer: InstructionTokenizer) -> None:
    red, valid = tokenizer.encode("pick up the red block")
    blue, _ = tokenizer.encode("pick up the blue block")
    assert np.count_nonzero(red != blue) == 1
    assert valid.tolist() == [True] * 6 + [False] * 10


def test_case_and_spaces_do_not_matter(tokenizer: InstructionTokenizer) -> None:
    a, _ = tokenizer.encode("  Pick up the RED block ")
    b, _ = tokenizer.encode("pick up the red block")
    np.testing.assert_array_equal(a, b)


def test_unknown_words_are_marked_and_listed(tokenizer: InstructionTokenizer) -> None:
    ids, valid = tokenizer.encode("defenestrate the red block")
    unknown = tokenizer.encode("zzz")[0][1]
    assert ids[1] == unknown
    assert valid.sum() == 5
    assert tokenizer.unknown_words("defenestrate the red block") == ["defenestrate"]


def test_instructions_that_are_too_long_are_refused(tokenizer: InstructionTokenizer) -> None:
    ids, valid = tokenizer.encode("red " * 15)
    assert len(ids) == 16
    assert valid.all()
    with pytest.raises(ValueError, match="reads 15 words"):
        tokenizer.encode("red " * 16)
    with pytest.raises(ValueError, match="10000 characters; valid: up to 1000"):
        tokenizer.encode("x" * 10_000)


def test_an_empty_instruction_is_an_error(tokenizer: InstructionTokenizer) -> None:
    with pytest.raises(ValueError, match="empty"):
        tokenizer.encode("   ")


def test_saved_and_loaded(tokenizer: InstructionTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = InstructionTokenizer.load(tmp_path / "tokenizer.json", 16)
    for text in ("put the blue block in the bowl", "something strange"):
        for a, b in zip(tokenizer.encode(text), loaded.encode(text), strict=True):
            np.testing.assert_array_equal(a, b)
    assert loaded.vocabulary_size == tokenizer.vocabulary_size


def test_new_words_get_new_ids_and_old_words_keep_theirs(tokenizer: InstructionTokenizer) -> None:
    extended = tokenizer.extended(["defenestrate the red block", "pick up the zither"])
    assert extended.vocabulary_size == tokenizer.vocabulary_size + 2
    assert extended.unknown_words("defenestrate the zither") == []
    assert tokenizer.unknown_words("zither") == ["zither"]
    old = "put the blue block in the bowl"
    np.testing.assert_array_equal(extended.encode(old)[0], tokenizer.encode(old)[0])
    assert extended.encode("zither")[0][1] >= tokenizer.vocabulary_size


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        InstructionTokenizer.load(tmp_path / "tokenizer.json", 16)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        InstructionTokenizer.load(tmp_path / "tokenizer.json", 16)
