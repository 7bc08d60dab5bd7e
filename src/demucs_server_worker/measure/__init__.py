"""How fast this machine separates: by backend, precision and number of workers, and how far that is from its floor."""
