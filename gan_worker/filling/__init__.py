"""Fill a bank: generate missing fakes in one process or on Ray actors."""
