"""Nothing that a client, a reseller or Stripe's event says is an address that we go to."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from deploy.stripe_sandbox.deliveries import signature_header
from tests.answers import answered, eventually
from tests.builders import a_guest, a_hold, a_slot
from tests.doubles.stripe_sandbox import Stripe
from tests.system import System


@contextmanager
def bait() -> Iterator[tuple[str, list[str]]]:
    """Listen where nobody has any business; yield the address, and who came."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def wait() -> None:
            while True:
                try:
                    connection, peer = listening.accept()
                except OSError:
                    return
                came.append(str(peer))
                connection.close()

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/errand", came
        listening.shutdown(socket.SHUT_RDWR)
    waiting.join(5)


def test_no_address_from_outside_is_ever_called(system: System, stripe: Stripe) -> None:
    """X18: in bodies, headers, tokens, webhooks and operators' texts: the bait is taken by nobody."""
    with bait() as (url, came):
        guest = a_guest(system)
        headers = dict.fromkeys(("Origin", "Referer", "Forwarded", "X-Forwarded-Host", "X-Callback-Url", "Link"), url)
        slot = a_slot(system, description=url)
        hold = a_hold(guest, slot, client_reference=url, metadata={"webhook_url": url, "callback": url})
        customer = {"name": url, "email": f"{url.partition('//')[2].replace('/', '.').replace(':', '.')}@example.org"}
        body = {"customer": customer, "payment": {"mode": "stripe"}}
        path = f"/v1/holds/{hold['id']}/convert"
        assert guest.ask("POST", path, key="c", json=body, headers=headers).status_code == 201
        jku = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.e30.x"
        system.call("reservation", "GET", "/v1/reservations", token=jku, headers={"Host": url.split("/")[2]})
        thing = {"id": url, "object": "plan", "url": url}
        event = {"id": f"evt_{uuid4().hex}", "object": "event", "type": "plan.created", "data": {"object": thing}}
        payload, secret = (
            json.dumps(event).encode(),
            system.setting_of("payment", "STRIPE_WEBHOOK_SECRETS").split(",")[0],
        )
        signed = {"Stripe-Signature": signature_header(payload, secret, int(time.time()))}
        answered(system.call("payment", "POST", "/webhooks/stripe", content=payload, headers=signed))
        assert stripe.pay_for(guest, hold["id"]).status_code == 200
        guest.wait_for(hold["id"], "confirmed", within_s=30)
        assert came == []
        socket.create_connection(("127.0.0.1", int(url.split(":")[2].partition("/")[0])), timeout=5).close()
        eventually(lambda: len(came), lambda count: count == 1)  # the bait was out
