"""Who is calling: our server with the secret key, or a browser that holds only the publishable one."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Literal

from .errors import ParametersInvalid
from .parameters import Params
from .settings import Settings

Caller = Literal["secret", "publishable"]


def caller(settings: Settings, headers: Mapping[str, str], params: Params) -> Caller:
    """Tell who calls from `Authorization` (Bearer or Basic) or, as Stripe.js does it, from the parameter `key`, which is taken out.

    Raises `ParametersInvalid` with status 401 without a key or with a wrong one.
    """
    key = params.pop("key", "") or _from_header(headers.get("authorization", ""))
    if not isinstance(key, str) or not key:
        message = "You did not provide an API key. Provide it in the Authorization header, using Bearer auth."
        raise ParametersInvalid(message, status=401)
    if hmac.compare_digest(key.encode(), settings.secret_key.encode()):
        return "secret"
    if hmac.compare_digest(key.encode(), settings.publishable_key.encode()):
        return "publishable"
    raise ParametersInvalid(f"Invalid API Key provided: {key[:8]}***{key[-4:]}", status=401)


def secret_key_required() -> ParametersInvalid:
    message = "This API call cannot be made with a publishable API key. Please use a secret API key."
    return ParametersInvalid(message, status=403, code="secret_key_required")


def _from_header(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
