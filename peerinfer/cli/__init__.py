"""The verbs a person types, one file per group of verbs. They talk to the daemon over its local HTTP API."""
