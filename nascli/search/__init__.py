"""Search: strategies propose and learn, evaluators score, executors run, the journal stores, the loop joins."""
