"""What the proxy keeps, byte for byte as each of its forms has it. See make.py."""
