"""Run folders: what a command asked, wrote and found, in one place that survives a kill."""
