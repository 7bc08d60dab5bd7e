"""The HTTP API and the web page: a thin layer over the worker manager, in its process and on its event loop."""
