//! Event ingestion, alerting and analytics inside your application.
