"""Deterministic simulation: both nodes' real runtime on virtual time, real SQLite transactions, a broker in memory, faults by the seed."""
