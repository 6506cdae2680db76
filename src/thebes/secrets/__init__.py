"""Secrets out of the code: found in a documented order, checked for strength, kept out of git and logs.

Protects against: secrets in the repository, in image layers and in readable files; weak, sample and
shared keys. Does not protect against who can read the process's memory or its environment.

`sources` finds values, `strength` judges keys, `project` sets a project up, `scan` looks at what is staged.

Sources: OWASP Secrets Management Cheat Sheet; ASVS 5.0.0 chapters 11 and 13.
"""
