"""What can be done with seats: price a party, hold, release, extend, expire, and mark what the saga decided."""
