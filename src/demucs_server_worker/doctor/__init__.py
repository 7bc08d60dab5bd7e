"""What keeps workers from working: checks for the three troubles people have, each with its mend."""
