"""Everything Holdfast needs around it (PostgreSQL, Valkey, a Stripe sandbox), started on loopback without Docker."""
