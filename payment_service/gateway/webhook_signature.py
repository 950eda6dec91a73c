"""Verifies that bytes came from Stripe: on the raw body, before anything reads it as text or JSON.

The SDK's own check raises UnicodeDecodeError and TypeError on garbage and accepts timestamps of any future; here every
kind of wrong is one refusal. Scheme: https://docs.stripe.com/webhooks#verify-manually.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence

from payment_service.errors import WebhookSignatureInvalid

_TIME = re.compile(r"[0-9]{1,12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEADER_LIMIT = 4096


def verify(body: bytes, header: str | None, *, secrets: Sequence[str], now_s: float, tolerance_s: int) -> None:
    """Raise WebhookSignatureInvalid (400) unless one v1 value fits one of the secrets and the time is near."""
    if not header or len(header) > _HEADER_LIMIT:
        raise WebhookSignatureInvalid
    times, digests = _read(header)
    if len(times) != 1 or not digests:
        raise WebhookSignatureInvalid
    if abs(now_s - int(times[0])) > tolerance_s:
        raise WebhookSignatureInvalid("The signature is too old, or of the future.")
    signed = times[0].encode() + b"." + body
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    # Every pair is compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(given, wanted) for given in digests for wanted in expected]
    if not any(matches):
        raise WebhookSignatureInvalid


def _read(header: str) -> tuple[list[str], list[str]]:
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t" and _TIME.fullmatch(value)]
    digests = [value for name, _, value in pairs if name == "v1" and _DIGEST.fullmatch(value)]
    return times, digests[:16]
