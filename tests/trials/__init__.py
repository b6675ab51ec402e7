"""Trials: many random cases of one kind, seeded, run with the other tests."""
