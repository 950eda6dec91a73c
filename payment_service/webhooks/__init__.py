"""Stripe's events, from raw bytes to a recorded effect; the stored row is the queue."""
