"""Papers' ablations run again on synthetic data: what is run, what it measured, what it says."""
