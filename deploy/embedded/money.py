"""Amounts as people read them; the product itself only ever counts minor units."""

# ISO 4217 currencies whose minor unit is the unit itself, or a thousandth of it.
_NO_DIGITS = {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
_THREE_DIGITS = {"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"}


def spoken(amount_minor: int, currency: str) -> str:
    """Return `EUR 45.00`, `JPY 4500`, `KWD 4.500`."""
    code = currency.upper()
    digits = 0 if code in _NO_DIGITS else 3 if code in _THREE_DIGITS else 2
    return f"{code} {amount_minor / 10**digits:.{digits}f}"
