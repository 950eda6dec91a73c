"""The only room from which calls to the provider leave; every one of them ends in one of four outcomes."""
