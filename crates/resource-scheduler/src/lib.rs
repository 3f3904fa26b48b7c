//! Resource Scheduler: match, place, lease, retry, explain; pure.
