"""The note board: SQLite store, HTML pages and JSON API."""
