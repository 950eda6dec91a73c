"""All SQL of this service; behaviours open a transaction and call these functions in it."""
