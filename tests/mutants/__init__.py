"""Wrong variants of the contract (design §8), and the laws that must kill them: `make mutants`."""
