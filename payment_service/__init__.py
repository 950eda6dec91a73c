"""Moves money through Stripe: records what it is about to do, does it, and records what came of it."""
