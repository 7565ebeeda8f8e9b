"""MLflow: what journals hold is put into a store, models are registered and served; nothing else imports it."""
