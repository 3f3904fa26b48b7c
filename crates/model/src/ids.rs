//! Names of things: newtypes, so that a job number can't be handed over as a fencing number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a text must look like to be read as one of the ids of this module.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdError {
    #[error("'{text}' is not a job number (expected digits, like 41)")]
    Job { text: String },
    #[error("'{text}' is not a subjob (expected JOB.INDEX, like 41.877)")]
    Subjob { text: String },
    #[error("'{text}' is not a hash (expected {expected} hexadecimal digits)")]
    Hex { text: String, expected: usize },
    #[error("'{text}' is not a user name (1 to 64 of a-z, A-Z, 0-9, '.', '_', '@' and '-')")]
    User { text: String },
}

/// A job's number, given out by the server from 1 upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(JobId).map_err(|_| IdError::Job { text: text.to_owned() })
    }
}

/// One unit of schedulable work (§2.1): a job and a position in its plan, from 0. Printed `job.index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubjobId {
    pub job: JobId,
    pub index: u64,
}

impl fmt::Display for SubjobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

impl FromStr for SubjobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Subjob { text: text.to_owned() };
        let (job, index) = text.split_once('.').ok_or_else(bad)?;
        Ok(SubjobId { job: job.parse().map_err(|_| bad())?, index: index.parse().map_err(|_| bad())? })
    }
}

/// The fencing number of a lease: one ever-growing counter for the whole grid. What is reported under a number
/// that is no longer live does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Defines a newtype over bytes that is written as lower-case hexadecimal everywhere.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bad = || IdError::Hex { text: text.to_owned(), expected: $len * 2 };
                let digits = text.as_bytes();
                if digits.len() != $len * 2 {
                    return Err(bad());
                }
                let mut bytes = [0; $len];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = hex_digit(pair[0]).ok_or_else(bad)? << 4 | hex_digit(pair[1]).ok_or_else(bad)?;
                }
                Ok($name(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; $len]>::deserialize(deserializer).map($name)
                }
            }
        }
    };
}

/// The value of one lower-case hexadecimal digit; upper case is refused, so that a hash has one spelling.
fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

hex_id! {
    /// The BLAKE3 hash of a file's bytes, and so its name in the file store and in every cache.
    BlobHash, 32
}

hex_id! {
    /// A client: the first 16 bytes of the BLAKE3 hash of its public key. Addresses and host names change, this
    /// does not (§2.1, PNM).
    ClientId, 16
}

impl ClientId {
    /// The first eight digits: enough for a person to tell clients apart in a table.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

/// A user of the grid, as written in a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserName(String);

impl UserName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UserName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(UserName(text.to_owned()))
        } else {
            Err(IdError::User { text: text.to_owned() })
        }
    }
}

impl<'de> Deserialize<'de> for UserName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subjob_reads_back_as_it_prints() {
        let id = SubjobId { job: JobId(41), index: 877 };
        assert_eq!(id.to_string(), "41.877");
        assert_eq!("41.877".parse(), Ok(id));
        for bad in ["41", "41.", ".7", "41.x", "41.7.3", "-1.2", ""] {
            assert!(bad.parse::<SubjobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hash_has_exactly_one_spelling() {
        let hash = BlobHash([0xab; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("AB".repeat(32).parse::<BlobHash>().is_err());
        assert!("ab".repeat(31).parse::<BlobHash>().is_err());
        assert!(format!("{}é", "a".repeat(62)).parse::<BlobHash>().is_err());
    }

    #[test]
    fn user_names_keep_out_what_a_table_or_a_path_would_trip_over() {
        for good in ["alice", "b.chen@lab-3", "a_b"] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "naïve", &"x".repeat(65)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad}");
        }
    }
}
