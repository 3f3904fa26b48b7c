//! The job spec: what a scientist writes to submit a job, in TOML or JSON, and how it becomes a plan.
