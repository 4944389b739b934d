"""What reaches a terminal of what hooks wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftwork_contract.terminal import clean

ESC = "\x1b"


@pytest.mark.parametrize(
    "hostile",
    [
        f"{ESC}[31m",
        f"{ESC}[2J",
        f"{ESC}[6n",
        f"{ESC}[?1049h",
        f"{ESC}]0;title\x07",
        f"{ESC}]0;title{ESC}\\",
        f"{ESC}]8;;https://x/{ESC}\\",
        f"{ESC}]52;c;aGk=\x07",
        f"{ESC}Pq#0{ESC}\\",
        f"{ESC}_Gpixels{ESC}\\",
        f"{ESC}^private\x9c",
        f"{ESC}c",
        f"{ESC}(0",
        f"{ESC}#8",
        "\x9b31m",
        "\x9d0;title\x9c",
        "\x90q\x9c",
        "\x07",
        "\b\b\b",
        "\r",
        "\x0e",
        "\x7f",
        "\x85",
        "\u202e",
        "\u2066",
        "\u200f",
        "\u061c",
        "\u2028",
    ],
)
def test_nothing_that_a_terminal_obeys_is_left(hostile: str) -> None:
    assert clean(f"before{hostile}after") == "beforeafter"


def test_a_sequence_without_end_hides_no_more_than_its_line() -> None:
    assert clean(f"one {ESC}]0;never ended\ntwo\n") == "one \ntwo\n"
    assert clean(f"one {ESC}[\ntwo {ESC}\n") == "one \ntwo \n"


def test_text_stays() -> None:
    text = "tabs\tand lines\nÄ 漢字 🚀 [31m ]0; 100 %\n"
    assert clean(text) == text


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_control_character_survives(text: str) -> None:
    left = clean(text)
    assert not [c for c in left if (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160]
    assert clean(left) == left
