"""Classes of faults, a file each that declares its `FAULT`."""
