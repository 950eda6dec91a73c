"""The book: where each PaymentIntent's money is, counted from the objects, for a three-way audit to compare with."""

from collections.abc import Callable

from .disputes import withdrawn
from .state import Document, State


def lines(state: State) -> list[Document]:
    """Return one line per PaymentIntent, oldest first; amounts in minor units of its currency.

    `net` is what the merchant has: captured, less refunds that have not failed, less what disputes hold.
    """
    refunds = _sums(
        state.all_of("refund"), lambda refund: refund["amount"] if refund["status"] in ("succeeded", "pending") else 0
    )
    failed = _sums(state.all_of("refund"), lambda refund: refund["amount"] if refund["status"] == "failed" else 0)
    disputed = _sums(state.all_of("dispute"), withdrawn)
    book = []
    for intent in state.all_of("payment_intent"):
        captured = intent["amount_received"]
        refunded = refunds.get(intent["id"], 0)
        book.append(
            {
                "payment_intent": intent["id"],
                "status": intent["status"],
                "currency": intent["currency"],
                "amount": intent["amount"],
                "authorized": intent["amount_capturable"],
                "captured": captured,
                "refunded": refunded,
                "refund_failed": failed.get(intent["id"], 0),
                "disputed": disputed.get(intent["id"], 0),
                "net": captured - refunded - disputed.get(intent["id"], 0),
                "canceled": intent["status"] == "canceled",
                "metadata": intent["metadata"],
                "created": intent["created"],
            }
        )
    return book


def totals(book: list[Document]) -> Document:
    """Return the sums per currency."""
    sums: Document = {}
    for line in book:
        total = sums.setdefault(
            line["currency"], dict.fromkeys(("authorized", "captured", "refunded", "disputed", "net"), 0)
        )
        for name in total:
            total[name] += line[name]
    return sums


def _sums(documents: list[Document], amount: Callable[[Document], int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for document in documents:
        sums[document["payment_intent"]] = sums.get(document["payment_intent"], 0) + amount(document)
    return sums
