"""The door: what comes in is checked for form, handed to a behaviour, and what comes out is dressed."""
