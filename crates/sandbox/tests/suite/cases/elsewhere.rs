//! Cases that other tests cover, because they need more than a sandbox: who they are and where.

/// A case with the test that shows it.
#[derive(Debug)]
pub(super) struct Elsewhere {
    pub number: u8,
    pub to: &'static str,
    pub barrier: &'static str,
    pub result: &'static str,
    /// From the repository's root.
    pub file: &'static str,
    pub test: &'static str,
}

const fn elsewhere(
    number: u8,
    to: &'static str,
    barrier: &'static str,
    result: &'static str,
    (file, test): (&'static str, &'static str),
) -> Elsewhere {
    Elsewhere { number, to, barrier, result, file, test }
}

pub(super) const ELSEWHERE: &[Elsewhere] = &[
    elsewhere(
        37,
        "outlive its client, which is killed",
        "the lifeline: the VM Portal ends with the client, and all with the VM Portal",
        "gone within a second",
        ("crates/sandbox/tests/suite/leftovers.rs", "a_client_killed_takes_everything_with_it"),
    ),
    elsewhere(
        21,
        "change its input through /dev/stdin",
        "the input is opened on a read-only mount",
        "refused",
        ("crates/sandbox/tests/suite/program.rs", "reads_its_input_and_cannot_change_it"),
    ),
    elsewhere(
        5,
        "leave files, sockets, queues, shared memory and daemons on the desktop",
        "all of it lies in namespaces and directories that end with the subjob",
        "gone",
        ("tests/end_to_end/clean.rs", "a_subjob_leaves_nothing_however_it_ends"),
    ),
    elsewhere(
        51,
        "leave a tree that is too deep to be removed",
        "removal by descriptor, without recursion",
        "gone",
        ("tests/hostile/programs.rs", "a_tree_too_deep_to_walk_is_removed_all_the_same"),
    ),
    elsewhere(
        49,
        "have a link, a fifo or a device collected as its output",
        "outputs are opened below the work directory, links not followed, regular files only",
        "refused",
        (
            "crates/desktop-controller/src/collect.rs",
            "only_plain_files_below_the_working_directory_are_taken",
        ),
    ),
];
