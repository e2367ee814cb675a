"""What kind of CPython the tests run on."""

from __future__ import annotations

import os
import re
import sys
import sysconfig

import pytest

#: The build has no GIL, or can do without (PEP 703).
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

#: Readers and writers have native methods, see docs/compatibility.md.
has_native_streams = sys.version_info >= (3, 11) and not FREE_THREADED and not hasattr(sys, "gettotalrefcount")

_FAULTS = os.environ.get("IRONLOOP_FAULTS", "")

#: For tests of what goes over the wire in one piece or in one go: system calls that fail on request (tests/sanitize.sh)
#: cut that, as they are meant to, unless they are only interrupted.
whole_calls = pytest.mark.skipif(
    not re.search(r"^$|errors=EINTR(,|$)", _FAULTS),
    reason="system calls are cut short on request",
)

#: For tests of what happens in one turn: on request a poll is interrupted, and what is there comes with the next one.
whole_turns = pytest.mark.skipif(bool(_FAULTS), reason="system calls fail on request")
