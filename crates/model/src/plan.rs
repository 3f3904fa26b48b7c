//! The plan of a job: the rule from which its subjobs are made.
