"""Accounts: registering, signing in, sessions, and the mails and hooks that follow a change."""
