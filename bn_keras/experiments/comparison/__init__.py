"""The comparison of norms: equal tuning, fresh seeds, targets from the baseline; `docs/protocol.md` says why."""
