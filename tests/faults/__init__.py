"""What must happen when system calls fail; for builds with the feature `faults` (tests/sanitize.sh faults)."""
