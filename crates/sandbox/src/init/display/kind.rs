//! Which windows are dialogs: windows that are there to be answered, as opposed to those that a program works in.

/// What a window says of itself. All of it is the program's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub kind: Kind,
    /// It belongs to another window (`WM_TRANSIENT_FOR`).
    pub transient: bool,
    /// It keeps the program's other windows from being used (`_NET_WM_STATE_MODAL`).
    pub modal: bool,
    /// The second part of `WM_CLASS`.
    pub class: String,
}

/// `_NET_WM_WINDOW_TYPE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has none, as those of old toolkits.
    #[default]
    Untold,
    Dialog,
    Other,
}

/// Classes of windows that are dialogs although they don't say so, with what they are.
const CLASSES: &[(&str, &str)] = &[
    ("Dialog", "message boxes of Tk, whose type tells it only since 8.5"),
    ("Xmessage", "the message box that comes with X"),
    ("Gxmessage", "its twin of GTK"),
    ("XConsole", "messages of the console"),
];

/// Whether a window with these properties waits for somebody when nothing else happens. Menus, tool tips and splash
/// screens have types of their own or bypass window managers, and are none.
pub(super) fn is_dialog(facts: &Facts) -> bool {
    match facts.kind {
        Kind::Dialog => true,
        Kind::Untold => {
            facts.modal || facts.transient || CLASSES.iter().any(|(class, _)| *class == facts.class)
        }
        Kind::Other => facts.modal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, transient: bool, modal: bool, class: &str, expect: bool) {
        let facts = Facts { kind, transient, modal, class: class.to_owned() };
        assert_eq!(is_dialog(&facts), expect, "{facts:?}");
    }

    #[test]
    fn windows_to_be_answered_are_dialogs() {
        check(Kind::Dialog, false, false, "Zenity", true);
        check(Kind::Dialog, true, true, "Tk", true);
        check(Kind::Untold, true, false, "Nedit", true);
        check(Kind::Untold, false, false, "Dialog", true);
        check(Kind::Untold, false, false, "Xmessage", true);
        check(Kind::Other, true, true, "java", true);
    }

    #[test]
    fn windows_to_work_in_are_not() {
        check(Kind::Untold, false, false, "Tk", false);
        check(Kind::Other, false, false, "Gimp", false);
        check(Kind::Other, true, false, "palette", false);
        // Its class is a program's name, which anybody may have.
        check(Kind::Other, false, false, "Dialog", false);
    }

    #[test]
    fn every_class_is_explained() {
        assert!(CLASSES.iter().all(|(class, what)| !class.is_empty() && !what.is_empty()));
    }
}
