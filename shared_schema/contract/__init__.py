"""What both sides must agree on: registers, records, policy, envelope, topics. Pure: no IO, no clock, no framework."""
