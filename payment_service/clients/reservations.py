"""The one way to reservation_service: payment events, signed, keyed by payment and version."""

from collections.abc import Callable

import httpx
import structlog
from pydantic import SecretStr, ValidationError

from shared.payment_contract import PaymentEvent, PaymentEventReceipt
from shared.signing import InternalSigner

log = structlog.get_logger()

PATH = "/internal/v1/payment-events"


class NotDelivered(Exception):
    """The event was not acknowledged; whether it arrived does not matter, it may be told again."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class ReservationsClient:
    """Speaks `shared.payment_contract`."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        signer: InternalSigner,
        *,
        bearer: SecretStr,
        signed: Callable[[], bool],
    ) -> None:
        """`http` has the base URL and the timeouts; `signed` is the flag, asked for each call."""
        self._http = http
        self._signer = signer
        self._bearer = bearer
        self._signed = signed

    async def tell(self, event: PaymentEvent) -> str:
        """Deliver one event and return what became of it there. Raises NotDelivered."""
        request = self._http.build_request(
            "POST",
            PATH,
            content=event.model_dump_json().encode(),
            headers={"idempotency-key": f"{event.payment_id}:{event.version}", "content-type": "application/json"},
        )
        self._authenticate(request)
        try:
            response = await self._http.send(request)
        except httpx.HTTPError as error:
            raise NotDelivered(type(error).__name__) from error
        if response.status_code != httpx.codes.OK:
            log.warning("payment_event_refused", payment_id=str(event.payment_id), http_status=response.status_code)
            raise NotDelivered(f"HTTP_{response.status_code}")
        try:
            return PaymentEventReceipt.model_validate_json(response.content).result
        except ValidationError as error:
            raise NotDelivered("unreadable_receipt") from error

    def _authenticate(self, request: httpx.Request) -> None:
        bearer = self._bearer.get_secret_value()
        if self._signed() or not bearer:
            self._signer.sign(request.method, str(request.url), request.headers, request.content)
        else:
            request.headers["authorization"] = f"Bearer {bearer}"
