"""A server worker for Demucs."""

__version__ = "0.1.0"
