"""Runs as MLflow has them: what uploads journals, what is registered, what is served. Nothing else imports MLflow."""
