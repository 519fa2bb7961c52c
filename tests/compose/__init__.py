"""`make test-compose`: the whole of deploy/ on a real container engine, and every command of its manual."""
