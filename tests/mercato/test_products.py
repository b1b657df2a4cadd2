"""The store of product changes: the last one of each product in a window."""

from pathlib import Path

from mercato.stores.products import Change, ProductStore


def test_of_each_product_the_last_change_in_a_window_counts(tmp_path: Path) -> None:
    """Windows are half-open, shops are apart, a removal is a change, and what was written outlives the connection."""
    url = f"sqlite:///{tmp_path / 'products.db'}"
    store = ProductStore(url)
    assert store.newest("a") == (0, 0)
    for at, body in ((1, {"name": "one"}), (2, {"name": "two"}), (3, None)):
        store.add("a", Change("p", at, body))
    store.add("a", Change("q", 2, {"name": "q"}))
    store.add("b", Change("p", 9, {"name": "other"}))
    again = ProductStore(url)
    assert again.between("a", 0) == [Change("p", 3, None), Change("q", 2, {"name": "q"})]
    assert again.between("a", 2, before=3) == [Change("p", 2, {"name": "two"}), Change("q", 2, {"name": "q"})]
    assert again.newest("a") == (4, 3)


def test_the_same_instant_twice_keeps_the_later_word(tmp_path: Path) -> None:
    """A client that sends a change again is not refused."""
    store = ProductStore(f"sqlite:///{tmp_path / 'products.db'}")
    for name in ("one", "two"):
        store.add("a", Change("p", 1, {"name": name}))
    assert store.between("a", 0) == [Change("p", 1, {"name": "two"})]
