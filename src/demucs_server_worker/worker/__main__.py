"""python -m demucs_server_worker.worker PIPE: one worker. Started by the pool."""

import sys

from demucs_server_worker.worker.main import main

main(sys.argv[1:])
