"""DDStore: error-bounded, learned compression of time series inside PostgreSQL."""
