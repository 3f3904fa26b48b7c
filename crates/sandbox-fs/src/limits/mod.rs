//! What a subjob may take of the desktop's disk: how much, and how fast (§4.2.2, §4.3.3.1).

mod pace;
mod quota;

pub(crate) use pace::Pacer;
pub use pace::Rate;
pub(crate) use quota::Account;
pub use quota::{Quota, Usage};
