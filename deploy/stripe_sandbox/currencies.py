"""Which amounts Stripe would take: minimum and maximum per currency, and how many decimals a minor unit stands for."""

from .errors import ParametersInvalid

_WITHOUT_DECIMALS = "bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf"
_WITH_THREE = "bhd jod kwd omr tnd"
_WITH_TWO = (
    "aed afn all amd aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc cve czk dkk "
    "dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr isk jmd kes kgs khr kyd kzt lak lbp lkr "
    "lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln qar ron rsd rub "
    "sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah usd uyu uzs wst xcd yer zar zmw"
)
ZERO_DECIMAL = frozenset(_WITHOUT_DECIMALS.split())
THREE_DECIMAL = frozenset(_WITH_THREE.split())
SUPPORTED = frozenset(_WITH_TWO.split()) | ZERO_DECIMAL | THREE_DECIMAL

_MINIMUM_MINOR = {
    "aed": 200, "bgn": 100, "czk": 1500, "dkk": 250, "gbp": 30, "hkd": 400, "huf": 17500, "mxn": 1000, "myr": 200, "nok": 300,
    "pln": 200, "ron": 200, "sek": 300, "thb": 1000,
}  # fmt: skip
_MINIMUM_ELSEWHERE_MINOR = 50
AMOUNT_MAX_MINOR = 99_999_999


class Currency:
    """A three-letter code that Stripe knows, in lower case."""

    def read(self, name: str, value: object) -> str:
        code = value.lower() if isinstance(value, str) else ""
        if code not in SUPPORTED:
            raise ParametersInvalid(f"Invalid currency: {value}", code="parameter_invalid_string", param=name)
        return code


def check_amount(amount_minor: int, currency: str) -> None:
    """Refuse an amount that Stripe would not charge.

    Raises `ParametersInvalid` with code `amount_too_small`, `amount_too_large`, or `parameter_invalid_integer` for a
    three-decimal currency whose last digit is not zero.
    """
    minimum = _MINIMUM_MINOR.get(currency, _MINIMUM_ELSEWHERE_MINOR)
    if amount_minor < minimum:
        message = f"Amount must be at least {written(minimum, currency)}"
        raise ParametersInvalid(message, code="amount_too_small", param="amount")
    if amount_minor > AMOUNT_MAX_MINOR:
        message = f"Amount must be no more than {written(AMOUNT_MAX_MINOR, currency)}"
        raise ParametersInvalid(message, code="amount_too_large", param="amount")
    if currency in THREE_DECIMAL and amount_minor % 10:
        message = f"Invalid amount: in {currency} the last decimal must be 0."
        raise ParametersInvalid(message, code="parameter_invalid_integer", param="amount")


def written(amount_minor: int, currency: str) -> str:
    """Write an amount for a person: `0.50 eur`, `50 jpy`, `1.500 kwd`."""
    decimals = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    return f"{amount_minor / 10**decimals:.{decimals}f} {currency}"
