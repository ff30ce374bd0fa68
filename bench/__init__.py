"""What it costs: `python -m bench` measures and prints. Nothing here is a test."""
