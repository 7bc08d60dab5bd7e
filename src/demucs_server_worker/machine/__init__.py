"""What this machine has for us: cores, memory and GPUs, as far as a container's limits let us have them."""
