"""What runs a network: torch, which runs all of them everywhere, and OpenVINO, which is faster for some on CPUs."""
