"""What whoever calls this API should know before the first call: stands above all operations in the OpenAPI document."""

MANNERS = """
Hold seats, convert the hold, let the guest pay with Stripe.js, and read the reservation until it is `confirmed`.

### Repeating a call

Make *the same call again*: same body, same `Idempotency-Key`. Nothing is done twice, and a new key because an answer did
not come would ask for a second hold.

- No answer: after 1 s, then 2, 4, 8, at most 10 s apart, with some chance in it.
- 429 and 503: after `Retry-After` (seconds) or `retry_after_ms`. Nothing was done.
- 2xx from convert with `outcome.type` `processing` or `payment_setup_failed`: the same convert call after `poll_after_ms`
  or `retry_after_ms`. It is the only retry that a frontend needs, and the seats are kept meanwhile.
- 408 and 500: a few times, after a second and longer.
- Any other 4xx: not until something is changed. `code` says what, and `retryable` says the same for programs.

### Limits

As shipped; whoever runs this may have set others, and `RateLimit-Policy` and `RateLimit` in the answers say what holds.

- 10 holds a minute for each customer, 100 for all anonymous guests of one address.
- 20 guest sessions a minute for each address; 20 look-ups an hour for each address, 5 for each reference.
- 100 calls a second, 200 at once, and 10,000 a day for each caller.

Beyond them a call is 429 `RATE_LIMITED`: `policy` names the limit, and nothing was done.

### Refusals

Problem documents (RFC 9457). Rely on `code`; quote `request_id` when you ask for help.
""".strip()
