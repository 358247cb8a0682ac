"""Where a run's metrics go; each kind of logger is a file that declares it in `LOGGERS`."""
