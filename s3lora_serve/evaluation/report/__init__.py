"""The report: findings, tables, charts, one HTML page."""
