//! What an ELF file asks for: its loader and its libraries, and what the C library opens later by itself.

use super::{Collector, Depth, Need, Task};
use crate::error::WrapError;
use crate::host::normalize;
use crate::layout::shadowing_mount;
use crate::loader::{Library, Via};
use crate::report::Reason;

impl Collector {
    pub(super) fn examine_elf(&mut self, task: &Task, owned: bool) -> Result<(), WrapError> {
        let Ok(elf) = self.loader.elf(&self.host, &task.found.path)? else { return Ok(()) };
        if let Some(interpreter) = &elf.interpreter {
            let Some(found) = self.host.probe(interpreter) else {
                return self.no_interpreter(task, interpreter);
            };
            self.rules.loaders.insert(found.path.clone());
            self.add_in_place(&found, Reason::Interpreter { of: task.place.clone() })?;
        }
        let closure = self.loader.close(&mut self.host, &task.found.path, &task.place, elf)?;
        for library in &closure.libraries {
            self.add_library(library)?;
        }
        match task.need {
            Need::Required => {
                let libraries = closure.libraries.iter().map(|library| library.found.path.clone());
                self.rules.essential.extend(libraries.chain([task.found.path.clone()]));
                self.missing.extend(closure.missing);
            }
            Need::Optional => {
                let missing = closure.missing.into_iter().map(|library| (library.name, library.needed_by));
                self.missing_optional.extend(missing);
            }
        }
        // A program from no package still relies on the data and plugins of the libraries that it uses.
        if task.depth >= Depth::Package && !owned {
            for library in &closure.libraries {
                self.add_package_of_library(&library.found)?;
            }
        }
        Ok(())
    }

    fn add_library(&mut self, library: &Library) -> Result<(), WrapError> {
        self.uses_libc |= library.name == "libc.so.6";
        let reason = Reason::Library { needed_by: library.needed_by.clone() };
        // A link that leads to where the sandbox mounts its own leads nowhere: the file itself takes its place.
        if library.in_app != library.on_host || shadowing_mount(&library.found.path).is_some() {
            return self.application.place(&normalize(&library.in_app), &library.found, reason);
        }
        self.add_passed_directories(&library.on_host);
        self.add_in_place(&library.found, reason)?;
        if library.via == Via::Configuration {
            let home = self.loader.home(&mut self.host);
            self.application.add_fallback_link(&format!("{home}/{}", library.name), &library.on_host);
        }
        Ok(())
    }

    /// The kernel walks through `x` in `x/../lib`, so `x` must exist.
    fn add_passed_directories(&mut self, path: &str) {
        for (at, _) in path.match_indices("/../") {
            let found = self.host.probe(&path[..at]);
            if let Some(found) =
                found.filter(|found| found.metadata.is_dir() && self.root_of(&found.path).is_none())
            {
                self.application.add_links(&found.links);
                self.application.add_directory(&found.path);
            }
        }
    }

    /// Adds what glibc starts or loads without being linked to it: a shell for system(3) and popen(3), the unwinder
    /// for pthread_exit(3) and backtrace(3), and before glibc 2.34 the readers of /etc/passwd and of names.
    pub(super) fn add_what_libc_opens(&mut self) -> Result<(), WrapError> {
        if !self.uses_libc {
            return Ok(());
        }
        let home = self.loader.home(&mut self.host);
        let libraries =
            ["libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2"].map(|name| format!("{home}/{name}"));
        for path in ["/bin/sh"].into_iter().chain(libraries.iter().map(String::as_str)) {
            if let Some(found) = self.host.probe(path) {
                self.add_along(path, &found, Reason::OpenedByLibc, Depth::Start)?;
            }
        }
        self.examine_all()
    }
}
