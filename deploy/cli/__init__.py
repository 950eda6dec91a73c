"""The `holdfast` command: what an operator does from a terminal."""
