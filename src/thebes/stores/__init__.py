"""What has to last, behind Protocols of atomic verbs: in memory, or in a SQLite file."""
