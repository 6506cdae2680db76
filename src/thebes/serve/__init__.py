"""Serving: the accept loop and its guards, `thebes serve` for production, `thebes dev` for development."""
