"""python -m demucs_server_worker.assistant: one child that does chores. Started by `Assistant`."""

from demucs_server_worker.assistant.child import main

main()
