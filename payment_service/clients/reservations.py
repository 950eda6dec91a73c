"""The one way to reservation_service: payment events, signed, keyed by payment and version."""

import httpx
import structlog
from pydantic import ValidationError

from shared.internal_calls import InternalSeal
from shared.payment_contract import PaymentEvent, PaymentEventReceipt

log = structlog.get_logger()

PATH = "/internal/v1/payment-events"


class NotDelivered(Exception):
    """The event was not acknowledged; whether it arrived does not matter, it may be told again."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class ReservationsClient:
    """Speaks `shared.payment_contract`."""

    def __init__(self, http: httpx.AsyncClient, seal: InternalSeal) -> None:
        """`http` has the base URL and the timeouts."""
        self._http = http
        self._seal = seal

    async def tell(self, event: PaymentEvent) -> PaymentEventReceipt:
        """Deliver one event and return what became of it there. Raises NotDelivered."""
        request = self._http.build_request(
            "POST",
            PATH,
            content=event.model_dump_json().encode(),
            headers={"idempotency-key": f"{event.payment_id}:{event.version}", "content-type": "application/json"},
        )
        self._seal.put_on(request.method, str(request.url), request.headers, request.content)
        try:
            response = await self._http.send(request)
        except httpx.HTTPError as error:
            raise NotDelivered(type(error).__name__) from error
        if response.status_code != httpx.codes.OK:
            log.warning("payment_event_refused", payment_id=str(event.payment_id), http_status=response.status_code)
            raise NotDelivered(f"HTTP_{response.status_code}")
        try:
            return PaymentEventReceipt.model_validate_json(response.content)
        except ValidationError as error:
            raise NotDelivered("unreadable_receipt") from error
