"""Songs that know the truth: a synthesiser of four-stem songs, and the measure that compares stems with it."""
