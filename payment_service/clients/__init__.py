"""Calls to the other service."""
