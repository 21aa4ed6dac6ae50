"""Settings for tests: nothing of the developer's own environment or `.env`, and a data directory that is thrown away."""

import atexit
import os
import shutil
import tempfile

from llmproxy_site.environment import Environment

_data = tempfile.mkdtemp(prefix="llmproxy-tests-")
atexit.register(shutil.rmtree, _data, ignore_errors=True)
# Empty counts as not given, and being set it keeps `.env` out.
os.environ.update(dict.fromkeys(Environment.variable_names(), ""), LLMPROXY_DATA_DIR=_data)  # noqa: TID251

from llmproxy_site.settings import *  # noqa: E402, F403
