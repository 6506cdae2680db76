"""The notebook: SQLite store, HTML pages and JSON API."""
