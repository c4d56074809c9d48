//! The text form of rules: `p95(metrics.response_time_ms) > 800 over 5m where source.service = 'shop' by source.endpoint for 2m`.

mod display;
