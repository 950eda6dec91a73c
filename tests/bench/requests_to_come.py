"""The requests of guests who all come for the first time, as bytes on the wire: made before anything is measured."""

import time
from collections.abc import Sequence
from uuid import uuid4

import orjson

from deploy.embedded.tokens import mint_token
from tests.builders import CUSTOMER, GOOD_CARD
from tests.system import System

_HOLDS_PER_GUEST = 4  # as many as a guest may have, less one
TICKET = "ticket_type_id"


def post(path: str, body: bytes, *, kind: str = "application/json", **headers: str) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-type: {kind}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


class Guests:
    """Makes guests' requests to one running system."""

    def __init__(self, system: System, ticket_type_id: str) -> None:
        self._secret = system.stack.wiring.auth_jwt_secret
        self._publishable_key = system.stack.credentials.stripe_publishable_key
        self._ticket_type_id = ticket_type_id

    def token(self) -> str:
        return mint_token(self._secret, sub=f"customer-{uuid4()}", ttl_s=3600, now_s=time.time())

    def hold(self, slot_id: str, token: str) -> bytes:
        """Return the POST of one hold of one seat, under a key of its own."""
        items = [{"ticket_type_id": self._ticket_type_id, "quantity": 1}]
        body = orjson.dumps({"time_slot_id": slot_id, "items": items})
        return post("/v1/holds", body, authorization=f"Bearer {token}", idempotency_key=uuid4().hex)

    def holds(self, slot_ids: Sequence[str], count: int) -> list[bytes]:
        """Return so many holds, the slots in turn."""
        tokens = [self.token() for _ in range(count // _HOLDS_PER_GUEST + 1)]
        return [self.hold(slot_ids[at % len(slot_ids)], tokens[at // _HOLDS_PER_GUEST]) for at in range(count)]

    def convert(self, hold_id: str, token: str) -> bytes:
        body = orjson.dumps({"customer": CUSTOMER, "payment": {"mode": "stripe"}})
        path = f"/v1/holds/{hold_id}/convert"
        return post(path, body, authorization=f"Bearer {token}", idempotency_key=f"convert-{hold_id}")

    def pay(self, client_secret: str) -> bytes:
        """Return what Stripe.js sends to Stripe."""
        form = (
            f"client_secret={client_secret}&payment_method_data[type]=card&payment_method_data[card][number]={GOOD_CARD}"
            "&payment_method_data[card][exp_month]=12&payment_method_data[card][exp_year]=2034"
            "&payment_method_data[card][cvc]=123"
        )
        return post(
            f"/v1/payment_intents/{client_secret.partition('_secret_')[0]}/confirm",
            form.encode(),
            kind="application/x-www-form-urlencoded",
            authorization=f"Bearer {self._publishable_key}",
        )
