"""From one core to many machines: what docs/many-cores.md says, with real processes."""
