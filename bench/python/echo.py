"""The worker of the Python SDK that does nothing."""

import sys

from graflow_sidecar import serve

serve(lambda task: None, concurrency=int(sys.argv[1]))
