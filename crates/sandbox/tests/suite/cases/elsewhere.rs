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
    elsewhere(
        37,
        "outlive its client, which hangs",
        "the heartbeat: a VM Portal that hears nothing ends everything",
        "gone within the limit",
        ("crates/sandbox/tests/suite/limits_heartbeat.rs", "a_client_that_hangs_loses_its_subjobs"),
    ),
    elsewhere(
        35,
        "profit from a VM Portal that is killed or stopped from outside",
        "the kernel ends its pid namespace; its silence is noticed",
        "gone, told as lost",
        (
            "crates/sandbox/tests/suite/limits_heartbeat.rs",
            "a_portal_that_is_killed_takes_everything_with_it_and_is_told_as_lost",
        ),
    ),
    elsewhere(
        11,
        "compute for more than its processor time, in one process or many",
        "times of all processes, the ended included",
        "ended: processor time limit",
        ("crates/sandbox/tests/suite/limits_use.rs", "processor_time_of_one_process_and_of_many"),
    ),
    elsewhere(
        12,
        "read and write more than its rate",
        "halted until it is back at the rate",
        "slowed",
        ("crates/sandbox/tests/suite/limits_use.rs", "reading_and_writing_go_at_the_set_rate"),
    ),
    elsewhere(
        13,
        "flood an allowed address",
        "a broker that carries the bytes at the set rate",
        "slowed",
        ("crates/sandbox/tests/suite/network.rs", "a_rate_is_kept_each_way"),
    ),
    elsewhere(
        14,
        "change an address between its check and its use",
        "the broker's listeners have fixed addresses: there is no check to race",
        "refused",
        ("crates/sandbox/tests/suite/network.rs", "changing_the_address_behind_a_check"),
    ),
    elsewhere(
        14,
        "open more connections than anybody needs",
        "a bound on connections at one time",
        "refused at the limit",
        (
            "crates/sandbox/tests/suite/network.rs",
            "a_flood_of_connections_is_bounded_and_the_first_still_works",
        ),
    ),
    elsewhere(
        20,
        "run although a byte of it was changed on the desktop's disk",
        "programs and libraries are compared with the manifest when the kernel says they were touched",
        "reported as tampering, laid out anew",
        ("tests/end_to_end/tampering.rs", "a_program_changed_between_two_subjobs_is_reported_and_replaced"),
    ),
    elsewhere(
        27,
        "have an executable stack, writable code or text relocations",
        "refused when it is wrapped",
        "refused",
        ("crates/wrap/src/register.rs", "a_file_that_wants_writable_code_is_refused_or_left_unregistered"),
    ),
    elsewhere(
        36,
        "lie to the VM Portal, or flood it",
        "the kernel says who sends; what is told is bounded",
        "no effect outside",
        ("tests/end_to_end/portal.rs", "lies_and_floods_neither_crash_nor_convince_the_vm_portal"),
    ),
    elsewhere(
        45,
        "wait for a click on a dialog",
        "dialogs on the private display are closed when nothing else works",
        "closed, its text reported",
        ("tests/display/dialogs.rs", "stubborn_dialogs_are_closed_too"),
    ),
    elsewhere(
        46,
        "crash",
        "the portal loader's handler tells the VM Portal",
        "reported with signal, address and functions",
        ("tests/end_to_end/portal.rs", "a_crash_is_told_with_the_names_of_functions"),
    ),
    elsewhere(
        47,
        "eat the grid's work by crashing at once, again and again",
        "black hole rule: three different subjobs in a row, back-off, trial",
        "the client gets no work for a while",
        ("crates/node-manager/src/black_hole.rs", "three_different_subjobs_in_a_row_are_needed"),
    ),
    elsewhere(
        49,
        "have its files collected while somebody changes them",
        "outputs are opened once, below the work directory, and read by descriptor",
        "nothing outside is read",
        (
            "crates/desktop-controller/src/collect/hostile_trees.rs",
            "nothing_outside_is_read_while_somebody_changes_the_tree",
        ),
    ),
    elsewhere(
        50,
        "find secrets of the job elsewhere than in its environment",
        "they are opened only to become the environment",
        "not there",
        ("tests/end_to_end/basics.rs", "secrets_reach_the_program_and_nothing_else"),
    ),
];
