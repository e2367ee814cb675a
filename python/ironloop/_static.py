"""`TYPE_CHECKING` and `cast` for the modules that every program imports, without `typing`.

On CPython 3.14 asyncio does not need `typing`, and to import it takes four times as long as all of ironloop.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import cast as cast
else:

    def cast(kind, value):
        """The value, whatever it is: `kind` is for type checkers."""
        return value
