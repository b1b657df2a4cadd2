"""Product names and query normalising."""

from hypothesis import given
from hypothesis import strategies as st

from feature_repo.text import MAX_QUERY_CHARS, normalise_query, product_name, product_text


def test_name_by_hand() -> None:
    """Type, then size, then brand; a missing part leaves no trace."""
    name = product_name(product_type="ICE - CRUSHED/CUBED", package_size="22 LB", brand="National")
    assert name == "Ice - Crushed/Cubed, 22 LB (National)"
    bare = product_name(product_type=None, package_size=None, brand=None, category="FRZN ICE")
    assert bare == "Frzn Ice"
    assert product_name(product_type=None, package_size=None, brand=None) == "Product"


def test_text_by_hand() -> None:
    """The text is lower case and says each thing once."""
    text = product_text(
        product_type="BREAD:ITALIAN/FRENCH", package_size=None, brand="Private", category="BREAD", department="PASTRY"
    )
    assert text == "bread italian french, bread, pastry, private"


@given(st.text(max_size=400))
def test_normalising_is_idempotent(query: str) -> None:
    """Normalising twice is normalising once, whatever was typed, and the result is bounded."""
    once = normalise_query(query)
    assert normalise_query(once) == once
    assert len(once) <= MAX_QUERY_CHARS
    assert "\n" not in once


def test_query_by_hand() -> None:
    """Case, width, punctuation and runs of space do not matter."""
    assert normalise_query("  \uff29\uff23\uff25,  Cream!\n") == "ice cream"
