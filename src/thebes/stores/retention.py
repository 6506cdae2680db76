"""How long rows are kept when nobody needs them any more: one answer for all stores.

Protects whoever's data it would be: what isn't there can't be stolen (LOG-09). An ended session stays for a
day, so that an operator who is asked "why was I signed out" can see it.

Does not protect: copies that were made before, such as backups.
"""

from __future__ import annotations

from typing import Final

# The longest that an access token can be believed: 60 minutes and 60 seconds of leeway (TOK-13, TOK-14). A
# store doesn't know what was configured; rows that stay for too long cost some bytes, ones that go too early
# a hole.
REVOCATION_SECONDS: Final = 3_660.0
ENDED_SESSION_SECONDS: Final = 86_400.0
FAILURE_SECONDS: Final = 86_400.0  # RAT-08: consecutive failures are forgotten a day after the last
RETIRED_KEY_SECONDS: Final = 86_400.0
PIECE = 500  # rows of one table that one call deletes: a write lock of some milliseconds
