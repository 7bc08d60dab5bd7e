"""The health of workers and machine: sampled, judged, and acted on."""
