"""The systems this service calls, each behind one file."""
