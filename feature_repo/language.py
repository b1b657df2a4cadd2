"""Which of the label set's languages a message is in: English, Hindi in Devanagari, or Hindi in Latin letters."""

import re
import unicodedata
from typing import Final

_DEVANAGARI = re.compile(r"[\u0900-\u097F]")
_LATIN_WORD = re.compile(r"[a-z]+")
_HINDI_WORDS: Final = frozenset(
    """
    aao aap aapka aapke aapki aaya aayega aayegi abhi accha acha achha achi agar aisa aise aur baad bahut baje bata
    bataiye batana batao bhai bhej bhejo bhi bohot bolo bura chahie chahiye chahta chahti chaiye chalega dedo degi
    dekh dekhna dekho dena dijiye dikha dikhaiye dikhao dikhaye diya gaya gayi gya gyi haa haan hai hain hoga hogi
    hona hoon hota hoti hu hua hui hun iska iske iski isko isme jab jaise jaldi jana jaye kab kabhi kaha kahan kaisa
    kaise kaisi kam kar kara karana kare karna karni karo karta karte kaun kaunsa kaunsi ke kidhar kitna kitne kitni
    kiya ko koi konsa kuch kya kyon kyu kyun laga lagta lena liye maine mein mera mere meri milega milegi mje
    mjhe muje mujhe mujhko mujko nahi nahin nai nhi paisa paise pehle phir raha rahe rahi rha rhi sabse sahi sakta
    sakte sakti sirf tera tha theek thi thik thoda toh tum tumhara uska uske usko waha wala wale wali wapas wapis
    yaar yaha yahan yeh
    """.split()  # noqa: SIM905 - a list of 140 quoted words reads worse
)
"""Frequent Hindi words as people spell them in Latin letters, without those that English or French has too."""
_SHORT: Final = frozenset({"par", "pe", "se", "le", "ki", "ka", "tak", "sab", "ek", "ye", "jo", "h", "na", "k"})
"""Words that say Hindi only beside another one."""


def language_of(text: str) -> str:
    """`hi`, `hinglish` or `en`: by its letters, then by the Hindi words in it; a guess that annotators can correct."""
    if len(_DEVANAGARI.findall(text)) * 2 > sum(char.isalpha() for char in text):
        return "hi"
    words = _LATIN_WORD.findall(unicodedata.normalize("NFKC", text).lower())
    sure = sum(word in _HINDI_WORDS for word in words)
    hints = sum(word in _SHORT for word in words)
    return "hinglish" if sure or hints > 1 or _DEVANAGARI.search(text) else "en"
