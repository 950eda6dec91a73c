"""A stand-in for Stripe on the loopback, so that Holdfast runs and is tested without an account. **It is not Stripe.**

It speaks the part of Stripe's wire protocol that Holdfast uses (the table is docs/reference/stripe-sandbox.md), keeps its state
in one SQLite file, moves no money and can be told to misbehave under `/_sandbox/`. Read in this order: `operations`
(what it can do), `front_desk` (the one path each call walks), `confirming` (what a card does), `deliveries` (webhooks).
"""
