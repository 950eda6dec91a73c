"""What can be done with a payment; no module here holds a connection while it waits for Stripe."""
