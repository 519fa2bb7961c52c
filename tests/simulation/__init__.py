"""Deterministic simulation: the real runtime of both nodes on virtual time, real SQLite transactions, a broker in memory, and faults by the seed."""
