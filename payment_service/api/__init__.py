"""The door: parses and refuses, then calls one behaviour."""
