"""Serving: `thebes dev` on stock uvicorn, over HTTPS with the local authority's certificate."""
