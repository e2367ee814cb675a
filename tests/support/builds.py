"""What kind of CPython the tests run on."""

from __future__ import annotations

import sysconfig

#: The build has no GIL, or can do without (PEP 703).
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
