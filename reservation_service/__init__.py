"""Experiences, time slots, holds, reservations, and the saga that takes a hold to a confirmed booking."""
