//! What the portal loader tells the VM Portal: one datagram each for the start of a process and for its crash.
//!
//! Who sent a datagram is known from the kernel and not part of it. Both sides compile this file, so it uses `core`
//! only. What arrives may come from a hostile program: reading it trusts no number in it.
//!
//! A frame is a row of little-endian words of 64 bits; a crash is followed by bytes of the stack and by lines of
//! the list of mappings.

/// Name of the VM Portal's socket in the abstract namespace of the subjob's network.
pub const ADDRESS: &[u8] = b"\0evm";

/// The first word of a frame: `EVM1` and its kind.
pub const STARTED: u64 = first_word(1);
pub const CRASHED: u64 = first_word(2);

const fn first_word(kind: u64) -> u64 {
    0x314d_5645 | kind << 32
}

/// Second word of [`STARTED`]: the process can't gain new code any more.
pub const CODE_FIXED: u64 = 1;
/// Second word of [`STARTED`]: faults of the process are reported.
pub const HANDLES_CRASHES: u64 = 2;

/// Words of a [`STARTED`] frame.
pub const STARTED_WORDS: usize = 2;

/// General registers, in the order of the kernel's `sigcontext`: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp,
/// rip, and the flags.
pub const REGISTERS: usize = 18;
pub const RBP: usize = 10;
pub const RBX: usize = 11;
pub const RSP: usize = 15;
pub const RIP: usize = 16;

/// Signals that a program dies of by its own fault, as x86-64 numbers them: SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL.
pub const SIGNALS: [i32; 5] = [11, 6, 7, 8, 4];

/// Words of a [`CRASHED`] frame, and where each is.
pub const CRASH_WORDS: usize = FIRST_REGISTER + REGISTERS;
pub const SIGNAL_AND_CODE: usize = 1;
pub const ADDRESS_OF_FAULT: usize = 2;
pub const THREAD: usize = 3;
/// Where the program's headers are in memory, which tells which mapping is the program's.
pub const PROGRAM_HEADERS: usize = 4;
pub const STACK_BEGINS: usize = 5;
/// Bytes of the stack in the lower half, of the mappings in the upper one.
pub const LENGTHS: usize = 6;
pub const FIRST_REGISTER: usize = 7;

/// Most bytes of the stack that are sent, from the innermost frame on.
pub const MAX_STACK: usize = 32 << 10;

/// Most bytes of mappings that are sent: those that can be executed, as /proc/self/maps has them.
pub const MAX_MAPPINGS: usize = 16 << 10;

/// Largest frame.
pub const MAX_FRAME: usize = CRASH_WORDS * 8 + MAX_STACK + MAX_MAPPINGS;

/// A frame as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Started { flags: u64 },
    Crashed(Crashed<'a>),
}

/// A process at the moment of its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crashed<'a> {
    words: &'a [u8],
    /// From [`Crashed::stack_begins`] on.
    pub stack: &'a [u8],
    /// Lines of /proc/self/maps.
    pub mappings: &'a [u8],
}

impl<'a> Crashed<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (words, rest) = bytes.split_at_checked(CRASH_WORDS * 8)?;
        let (stack, mappings) = halves(word(words, LENGTHS)?);
        let (stack, mappings) = (stack as usize, mappings as usize);
        if stack > MAX_STACK || mappings > MAX_MAPPINGS || rest.len() != stack + mappings {
            return None;
        }
        let (stack, mappings) = rest.split_at_checked(stack)?;
        let crashed = Crashed { words, stack, mappings };
        SIGNALS.contains(&crashed.signal()).then_some(crashed)
    }

    fn word(&self, at: usize) -> u64 {
        word(self.words, at).unwrap_or(0)
    }

    pub fn signal(&self) -> i32 {
        halves(self.word(SIGNAL_AND_CODE)).0.cast_signed()
    }

    /// The kernel's `si_code`: above 0 for a fault, else somebody sent the signal.
    pub fn code(&self) -> i32 {
        halves(self.word(SIGNAL_AND_CODE)).1.cast_signed()
    }

    pub fn address(&self) -> u64 {
        self.word(ADDRESS_OF_FAULT)
    }

    /// Where the program's headers are in memory.
    pub fn program_headers(&self) -> u64 {
        self.word(PROGRAM_HEADERS)
    }

    pub fn thread(&self) -> u32 {
        halves(self.word(THREAD)).0
    }

    /// A register by its number; 0 for one that there is not.
    pub fn register(&self, number: usize) -> u64 {
        if number < REGISTERS { self.word(FIRST_REGISTER + number) } else { 0 }
    }

    pub fn stack_begins(&self) -> u64 {
        self.word(STACK_BEGINS)
    }
}

impl<'a> Frame<'a> {
    /// Reads a datagram; nothing when it is no whole frame.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        match word(bytes, 0)? {
            STARTED if bytes.len() == STARTED_WORDS * 8 => Some(Frame::Started { flags: word(bytes, 1)? }),
            CRASHED => Crashed::read(bytes).map(Frame::Crashed),
            _ => None,
        }
    }
}

/// Puts two numbers into one word.
pub const fn join(lower: u32, upper: u32) -> u64 {
    lower as u64 | (upper as u64) << 32
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at * 8..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash() -> Vec<u8> {
        let mut words = [7_u64; CRASH_WORDS];
        words[0] = CRASHED;
        words[SIGNAL_AND_CODE] = join(11, 1);
        words[LENGTHS] = join(5, 3);
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        words.chain(*b"stackmap").collect()
    }

    #[test]
    fn a_frame_reads_as_it_was_sent() {
        let bytes = crash();
        let Some(Frame::Crashed(found)) = Frame::read(&bytes) else { panic!("no crash") };
        assert_eq!((found.signal(), found.code(), found.address()), (11, 1, 7));
        assert_eq!((found.stack, found.mappings), (&b"stack"[..], &b"map"[..]));
        assert_eq!((found.register(RIP), found.register(REGISTERS)), (7, 0));
        let started = [STARTED, CODE_FIXED].map(u64::to_le_bytes).concat();
        assert_eq!(Frame::read(&started), Some(Frame::Started { flags: CODE_FIXED }));
    }

    #[test]
    fn what_is_no_whole_frame_is_none() {
        for end in 0..crash().len() {
            assert_eq!(Frame::read(&crash()[..end]), None, "{end} bytes");
        }
        let mut longer = crash();
        longer.push(0);
        assert_eq!(Frame::read(&longer), None);
    }

    /// Mutates a crash in 20,000 ways from a fixed seed.
    #[test]
    fn no_bytes_make_the_reader_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let good = crash();
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = u8::try_from(random(256)).unwrap(),
                    1 => bytes.truncate(1 + at),
                    _ => bytes.insert(at, 0xff),
                }
            }
            if let Some(Frame::Crashed(found)) = Frame::read(&bytes) {
                assert_eq!(found.stack.len() + found.mappings.len() + CRASH_WORDS * 8, bytes.len());
            }
        }
    }
}
