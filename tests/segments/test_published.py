"""Names that users give: what can be shown in one line, and nothing else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.errors import ConfigError
from core.segments.naming import LONGEST_NAME, checked_name


def shown(text):
    """Whether a text can be read in one line; joiners are letters' own."""
    return text.replace("\u200c", "").replace("\u200d", "").isprintable()


@given(st.text(max_size=LONGEST_NAME + 5))
@example("Été à Zürich 2")
@example("क्\u200dष")
@example("👩\u200d🌾")
def test_a_name_is_taken_without_white_space_around_it_or_refused(name):
    text = name.strip()
    if not text or len(text) > LONGEST_NAME or not shown(text):
        with pytest.raises(ConfigError, match="is no name for a segment"):
            checked_name(name)
        return
    assert checked_name(name) == text
    assert len(text.splitlines()) == 1
    assert not {unicodedata.category(c) for c in text} & {"Cc", "Zl", "Zp", "Cs"}


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029])
def test_every_control_character_and_line_end_is_named(code):
    with pytest.raises(ConfigError, match=rf"character 2 is U\+{code:04X} "):
        checked_name(f"a{chr(code)}b")


@pytest.mark.parametrize("code", [0xA0, 0xAD, 0x200B, 0x202E, 0x2066, 0xFEFF, 0xD800])
def test_a_character_that_nobody_sees_is_named(code):
    with pytest.raises(ConfigError, match=rf"character 2 is U\+{code:04X} "):
        checked_name(f"a{chr(code)}b")
