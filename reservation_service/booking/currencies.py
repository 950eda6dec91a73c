"""Which amounts a card can pay: per currency the smallest one, the steps it is charged in, and what cannot be sold in.

Amounts are integers in the minor unit of ISO 4217 (its list one, "Minor unit": JPY 0, EUR 2, KWD 3), so that no
arithmetic here depends on how many decimals people write. What does depend on the currency is what Stripe takes.
Source: Stripe documentation, "Supported currencies": minor units, special cases, minimum and maximum amounts.
"""

LARGEST_MINOR = 99_999_999

_SMALLEST_MINOR = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50,
    "GBP": 30, "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50,
    "PLN": 200, "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
_SMALLEST_ELSEWHERE_MINOR = 50
# ISO 4217 gives these three decimals; Stripe charges them only when the last one is 0.
_CHARGED_IN_TENS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
# Stripe counts these in another unit than ISO 4217 does: our integer would be a hundred times too much or too little.
_COUNTED_OTHERWISE = frozenset({"ISK", "MGA", "UGX"})


def smallest_minor(currency: str) -> int:
    """Return the smallest amount that a card payment may have."""
    return _SMALLEST_MINOR.get(currency, _SMALLEST_ELSEWHERE_MINOR)


def step_minor(currency: str) -> int:
    """Return the number of which every amount that is charged is a multiple."""
    return 10 if currency in _CHARGED_IN_TENS else 1


def is_sellable(currency: str) -> bool:
    """Tell whether an amount in the currency's minor unit means the same to Stripe."""
    return currency not in _COUNTED_OTHERWISE
