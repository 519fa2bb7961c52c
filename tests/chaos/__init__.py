"""Breaking it on purpose: both nodes as real processes over a real Kafka, whatever may die dying, and the one checker after it."""
