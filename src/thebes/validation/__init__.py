"""The room of input: what a request may bring before any handler sees it."""
