//! One logical result out of the outputs of many subjobs (§2.1 step 9).
