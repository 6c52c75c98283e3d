"""Charts and tables of results: rankings, timelines, reliability, statistics, weighting."""
