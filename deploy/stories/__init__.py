"""Five bookings that could have gone wrong, told while they happen: what `make demo` shows."""
