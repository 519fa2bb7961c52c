"""What a server's owner does to the databases on it, in statements: copies, and a fail-over to one that is older."""

from abc import ABC, abstractmethod


class DatabaseServer(ABC):
    """A PostgreSQL whose owner's statements are run by `execute`, one after the other."""

    copies = 0

    @abstractmethod
    def execute(self, statement: str) -> None:
        """One statement, by the server's owner, in no transaction."""

    def copy_database(self, template: str) -> str:
        """A copy of a database that nobody is connected to; its name."""
        self.copies += 1
        name = f"fresh_{self.copies}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def copy_of(self, name: str) -> str:
        """A copy of a database that others use; its name. Their connections break, and new ones are refused until it is made."""
        self.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        try:
            self.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")
            return self.copy_database(name)
        finally:
            self.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def fail_over(self, name: str, copy: str) -> None:
        """Every connection to a database breaks, and the next ones lead to an older copy of it."""
        self.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        self.execute(f"ALTER DATABASE {name} RENAME TO {name}_fallen")
        self.execute(f"ALTER DATABASE {copy} RENAME TO {name}")
