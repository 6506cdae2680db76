"""The names of the checks, as `without`, `exempt` and the events speak of them."""

# Names by which `without` takes a defence out, for tests that prove what it was good for.
CHECK_NAMES = (
    "hosts",
    "methods",
    "https",
    "cors",
    "body",
    "csrf",
    "csrf_token",
    "tokens",
    "limits",
    "headers",
)
# The checks that a single route may be exempt from; the body's limits are declared by `route`.
EXEMPTIBLE = ("csrf",)
