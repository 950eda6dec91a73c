"""All SQL of this service; functions take the transaction that their caller opened."""
