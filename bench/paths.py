"""Where the benches keep what is made once. Imports nothing, since some benches run the manager in their process."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = Path(__file__).parent / "models"
CONVERTED = MODELS / "converted"
RESULTS = Path(__file__).parent / "results"
IMAGES = ROOT / "docs" / "images"
