"""Practice 1: HTTPS everywhere.

Each file is imported by its own name: only servers need those that load `cryptography`.
"""
