"""Price bounds in a query, in English, Hindi and Hinglish: "under 1500", "₹2000 se kam", "between 20 and 30"."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_CURRENCY: Final = r"(?:[₹$£€]|(?:rs|inr|usd|gbp|eur|rupees?|rupaye|rupay|dollars?|bucks|रुपये|रुपए|रु)(?![^\W\d])\.?)"
_SAID_MANY: Final = {
    "k": 1_000, "thousand": 1_000, "hazar": 1_000, "hazaar": 1_000, "हजार": 1_000, "हज़ार": 1_000,
    "lakh": 100_000, "lac": 100_000, "लाख": 100_000,
}  # fmt: skip
_MANY: Final = {unicodedata.normalize("NFKC", word): factor for word, factor in _SAID_MANY.items()}
_NUMBER: Final = r"\d{1,3}(?:,\d{2,3})+(?:\.\d{1,2})?|\d{1,9}(?:\.\d{1,2})?"
_UNITS: Final = (
    r"(?:inch|inches|in|cm|mm|m|ft|feet|foot|kg|g|gm|gms|grams?|lbs?|oz|ml|l|ltr|lit(?:er|re)s?|gb|tb|mb|mp|hz|khz|mhz|"
    r"ghz|w|watts?|v|volts?|mah|dpi|rpm|fps|x|p|pcs?|pieces?|packs?|pk|ct|counts?|years?|yrs?|months?|days?|hours?|mins?|"
    r"minutes?|seats?|seater|persons?|people|doors?|drawers?|ports?|cores?|inches|किलो|ग्राम|लीटर|साल|"
    r"weeks?|nights?|yo|players?|guests?|users?|pax|servings?|pages?|layers?|ply|threads?|calories|calorie|k?cals?|kj|"
    r"atm|psi|gsm|denier|tog|lumens?|lux|nits?|decibels?|db|degrees?|percent|km|kms|miles?|mph|kmph|kph|cc|bhp|mg|mcg|iu|"
    r"wh|kw|kwh|kva|mbps|gbps|megapixels?|pixels?|carats?|karats?|stars|gallons?|acres?|"
    r"saal|mahine|hafte|din|महीने|हफ़्ते|हफ्ते|दिन)"
)
"""What a number right before it counts or measures: that is no price. No words that products are called by."""
_AGES: Final = 100
"""Below it, "under 16 football kit" names an age as well as a price."""
_YEARS: Final = (1900, 2099)


def _amount(name: str) -> str:
    """A number, with its currency before or after it; not the number of something else."""
    many = "|".join(_MANY)
    return (
        rf"(?:(?P<c{name}>{_CURRENCY})\s*|(?<![\w.,]))(?P<{name}>{_NUMBER})(?:\s?(?P<k{name}>{many})(?!\w))?(?:/-)?"
        rf"(?:\s*(?P<d{name}>{_CURRENCY})(?!\w)|(?![\w%\"”″]|[.,]\d)(?!\s*(?:-\s*)?{_UNITS}(?!\w)))"
    )


_A, _B = _amount("a"), _amount("b")
_BELOW: Final = (
    r"(?:under|below|less than|cheaper than|within|up ?to|upto|at most|no more than|not more than|maximum|<=?)"
)
_ABOVE: Final = r"(?:above|over|more than|at least|not less than|minimum|starting (?:at|from)|>=?)"
_MAX: Final = r"max(?:imum)?\.?"
_MIN: Final = r"min(?:imum)?\.?"
_AND: Final = r"\s*(?:(?:,|&|and|but|aur|lekin|par|और|लेकिन|पर)\s*)?"
_KAM: Final = r"(?:se|से)\s+(?:kam|km|neeche|niche|nichey|sasta|saste|sasti|कम|नीचे|सस्ता|सस्ते|सस्ती)"
_ANDAR: Final = (
    r"(?:(?:ke|के)\s+(?:andar|under|bhitar|neeche|niche|अंदर|अन्दर|भीतर|नीचे)|(?:tak|तक)(?!\w)|"
    r"(?:or less|or below|and below)(?!\s*[₹$£€]?\d))"
)
_ZYADA: Final = (
    r"(?:(?:se|से|ke|के)\s+(?:zyada|jyada|jada|zada|adhik|upar|uper|oopar|mehnga|mehnge|mehngi|"
    r"ज़्यादा|ज्यादा|अधिक|ऊपर|महंगा|महंगे|महंगी)|or more|and above|and up)"
)
_EDGE: Final = r"(?:ki\s+|ke\s+|का\s+|के\s+|की\s+)?"
_PRICE_WORD: Final = (
    r"(?:(?:price[ds]?|cost(?:s|ing)?|budget|daam|keemat|kimat|दाम|कीमत|क़ीमत)\s+(?:of\s+|is\s+|range\s+|in\s+)?)"
)


@dataclass(frozen=True, slots=True)
class PriceBounds:
    """Bounds in minor units, and the words that stated them."""

    low: int | None
    high: int | None
    said: str


_MOST: Final = 10**9
"""Major units; a number beyond is no price."""


def _amounts(match: re.Match[str]) -> dict[str, Decimal]:
    """The numbers by name, times the thousands or lakhs said; in "10 to 20k" both are thousands."""
    said = {name: Decimal(match[name].replace(",", "")) for name in ("a", "b") if name in match.re.groupindex}
    factor = {name: _MANY.get(match[f"k{name}"] or "", 1) for name in said}
    if "b" in said and factor["a"] == 1 and said["a"] < said["b"]:
        factor["a"] = factor["b"]
    return {name: said[name] * factor[name] for name in said}


def _bounds(match: re.Match[str], digits: int, *, low: str | None, high: str | None) -> tuple[int | None, int | None]:
    minor = {name: int(amount * 10**digits) for name, amount in _amounts(match).items()}
    return minor[low] if low else None, minor[high] if high else None


Sense = Callable[[re.Match[str]], bool]


def _always(_: re.Match[str]) -> bool:
    return True


def _named(match: re.Match[str]) -> bool:
    """Whether a currency or the word price says that the two numbers are amounts."""
    found = match.groupdict()
    return any(found.get(name) for name in ("ca", "cb", "da", "db", "word", "price"))


def like_years(first: int, last: int) -> bool:
    """Whether two plain numbers look like years: "films from 2010 to 2015"."""
    return all(_YEARS[0] <= each <= _YEARS[1] for each in (first, last))


def _no_years(match: re.Match[str]) -> bool:
    """Whether the two numbers are amounts, not years."""
    said = match["a"], match["b"]
    plain = all(each.isdigit() for each in said) and not (match["ka"] or match["kb"])
    return _named(match) or not (plain and like_years(int(said[0]), int(said[1])))


def _no_last_year(match: re.Match[str]) -> bool:
    """Whether the number does not end a range: one that comes this far was of years ("2010 se 2015 tak")."""
    return re.search(r"\d\s*(?:se|से)\s*$", match.string[: match.start()]) is None


def _no_age(match: re.Match[str]) -> bool:
    """Whether the one number is an amount: a low one before what is looked for is an age."""
    words_follow = re.search(r"\w", match.string[match.end() :]) is not None
    return _named(match) or match.start() > 0 or not words_follow or _amounts(match)["a"] >= _AGES


def _rises(match: re.Match[str]) -> bool:
    """Whether the first number is the lower one: "max 2 over 500" is no pair of bounds."""
    amounts = _amounts(match)
    return amounts["a"] <= amounts["b"]


def _falls(match: re.Match[str]) -> bool:
    """Whether the first number is the higher one."""
    amounts = _amounts(match)
    return amounts["a"] >= amounts["b"]


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(unicodedata.normalize("NFKC", pattern))


_BEFORE: Final = r"(?<!\w)(?P<word>" + _PRICE_WORD + r")?"
_NO_AGE: Final = r"(?<!\bfor )(?<!\bage )(?<!\baged )(?<!\bages )"
_PRICE: Final = rf"\s*(?P<price>{_PRICE_WORD})?"
_PATTERNS: Final[tuple[tuple[re.Pattern[str], str | None, str | None, Sense], ...]] = (
    (_compiled(rf"{_BEFORE}(?:between|from)\s+{_A}\s*(?:and|to|-|&)\s*{_B}"), "a", "b", _no_years),
    (_compiled(rf"{_NO_AGE}{_BEFORE}(?:{_ABOVE}|{_MIN})\s*{_A}{_AND}(?:{_BELOW}|{_MAX})\s*{_B}"), "a", "b", _rises),
    (_compiled(rf"{_BEFORE}(?:{_BELOW}|{_MAX})\s*{_A}{_AND}(?:{_ABOVE}|{_MIN})\s*{_B}"), "b", "a", _falls),
    (_compiled(rf"{_BEFORE}{_A}\s*(?:{_ZYADA}){_AND}{_B}\s*(?:{_KAM}|{_ANDAR})(?!\w)"), "a", "b", _rises),
    (_compiled(rf"{_BEFORE}{_A}\s*(?:{_KAM}|{_ANDAR}){_AND}{_B}\s*(?:{_ZYADA})(?!\w)"), "b", "a", _falls),
    (_compiled(rf"{_BEFORE}{_A}\s*(?:se|से)\s+{_B}\s*(?:{_EDGE}(?:tak|beech|bich|तक|बीच)(?:\s+(?:me|mein|में))?)(?!\w)"),
     "a", "b", _no_years),
    (_compiled(rf"{_BEFORE}{_A}\s*(?:to|-|\u2013|se|से)\s*{_B}"), "a", "b", _named),
    (_compiled(rf"{_BEFORE}{_A}\s*(?:{_KAM})(?!\w)"), None, "a", _always),
    (_compiled(rf"{_BEFORE}{_A}\s*(?:{_ANDAR})(?!\w)"), None, "a", _no_last_year),
    (_compiled(rf"{_BEFORE}{_A}\s*(?:{_ZYADA})(?!\w)"), "a", None, _always),
    (_compiled(rf"{_BEFORE}{_A}\s*\+"), "a", None, _named),
    (_compiled(rf"{_BEFORE}{_BELOW}\s*{_A}"), None, "a", _no_age),
    (_compiled(rf"{_BEFORE}{_MAX}{_PRICE}{_A}"), None, "a", _named),
    (_compiled(rf"{_BEFORE}{_MIN}{_PRICE}{_A}"), "a", None, _named),
    (_compiled(rf"{_NO_AGE}{_BEFORE}{_ABOVE}\s*{_A}"), "a", None, _no_age),
    (_compiled(rf"(?<!\w)(?P<word>budget\s+(?:of\s+|is\s+)?){_A}"), None, "a", _always),
)  # fmt: skip


def price_bounds(text: str, digits: int) -> PriceBounds | None:
    """The first price bounds that `text` states; None when it states none.

    Args:
        text: a query, NFKC and lower case, symbols still in it.
        digits: decimal digits of the currency's minor unit.
    """
    for pattern, low, high, sense in _PATTERNS:
        for match in pattern.finditer(text):
            if sense(match) and max(_amounts(match).values()) <= _MOST:
                bounds = _bounds(match, digits, low=low, high=high)
                if None not in bounds and bounds[0] > bounds[1]:  # type: ignore[operator]
                    bounds = bounds[1], bounds[0]
                return PriceBounds(*bounds, said=match.group().strip())
    return None
