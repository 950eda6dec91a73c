"""The bank's page of 3D Secure, for a person in a browser: two buttons, and back to the shop."""

from html import escape
from urllib.parse import urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from . import timers
from .confirming import authenticate, load
from .errors import ApiError
from .parameters import decode
from .sandbox import Sandbox
from .state import Document, private

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sandbox bank</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:28rem;margin:10vh auto;padding:0 1rem;color:#1f2933}}
button{{font:inherit;padding:.6rem 1.2rem;margin-right:.6rem;border:1px solid #52606d;border-radius:.4rem;background:#fff;cursor:pointer}}
button[value=complete]{{background:#1f6f54;border-color:#1f6f54;color:#fff}}small{{color:#52606d}}
</style></head><body><h1>{title}</h1>{content}
<p><small>Holdfast's Stripe sandbox. This is not Stripe, no bank is asked and no money moves.</small></p></body></html>"""


def page(title: str, content: str, status: int = 200) -> HTMLResponse:
    """Return a page in the sandbox's plain dress; `content` is trusted HTML."""
    return HTMLResponse(_PAGE.format(title=escape(title), content=content), status)


class BankPage:
    """GET shows the question, POST takes the answer and sends the browser back to the shop."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def show(self, request: Request) -> Response:
        secret = request.query_params.get("client_secret", "")
        try:
            intent = self._intent(request.path_params["id"], secret)
        except ApiError as refusal:
            return page("Nothing to confirm", f"<p>{escape(str(refusal))}</p>", refusal.status)
        if intent["status"] != "requires_action":
            return page(
                "Already decided", f"<p>The payment is {escape(intent['status'])}. You may close this page.</p>"
            )
        amount = f"{intent['amount']} {intent['currency'].upper()} (minor units)"
        return page(
            "Confirm your payment",
            f"<p>{escape(amount)}</p><form method='post'><input type='hidden' name='client_secret' value='{escape(secret)}'>"
            "<button name='outcome' value='complete'>Complete authentication</button>"
            "<button name='outcome' value='fail'>Fail authentication</button></form>",
        )

    async def decide(self, request: Request) -> Response:
        try:
            form = decode((await request.body()).decode("utf-8", "replace"))
            intent = self._intent(request.path_params["id"], str(form.get("client_secret", "")))
            intent = self.conclude(intent, succeeded=form.get("outcome") == "complete")
        except ApiError as refusal:
            return page("Nothing to confirm", f"<p>{escape(str(refusal))}</p>", refusal.status)
        return_url = private(intent).get("return_url")
        if not return_url:
            return page("Thank you", f"<p>The payment is now {escape(intent['status'])}. You may close this page.</p>")
        return RedirectResponse(_with_result(return_url, intent), status_code=303)

    def conclude(self, intent: Document, *, succeeded: bool) -> Document:
        """Let the customer pass or fail, and return what became of the PaymentIntent (a decline is no error here)."""
        sandbox = self._sandbox
        with sandbox.state.transaction():
            turn = sandbox.turn()
            timers.run_due(turn)
            try:
                with sandbox.state.step():
                    authenticate(turn, intent, succeeded=succeeded)
            except ApiError as refusal:
                if not refusal.keeps_effects:
                    raise
        sandbox.deliverer.wake()
        return sandbox.state.fetch("payment_intent", intent["id"])

    def _intent(self, intent_id: str, secret: str) -> Document:
        turn = self._sandbox.turn()
        turn.publishable = True
        turn.target, turn.params = intent_id, {"client_secret": secret}
        return load(turn)


def _with_result(return_url: str, intent: Document) -> str:
    result = {
        "payment_intent": intent["id"],
        "payment_intent_client_secret": intent["client_secret"],
        "redirect_status": "failed" if intent["status"] == "requires_payment_method" else "succeeded",
    }
    parts = urlsplit(return_url)
    return urlunsplit(parts._replace(query="&".join(part for part in (parts.query, urlencode(result)) if part)))
