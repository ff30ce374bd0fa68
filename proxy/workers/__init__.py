"""Several processes that share one port: who starts, watches, replaces and adds them up."""
