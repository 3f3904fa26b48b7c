//! Which programs make code while they run, known by the engines that they load: Java and JavaScript virtual
//! machines, LuaJIT, LLVM. They are marked, and only they may have memory that is writable and executable.
//!
//! A file of this table in an application is not enough: what matters is who loads it. Whether an engine that is
//! opened by name will be used can't be known; then those programs are marked that usually open it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::elf::Elf;
use crate::host::split;

/// One engine.
struct Engine {
    /// How the file's name begins.
    name: &'static str,
    loaded: Loaded,
}

/// Who loads an engine, besides those that are linked to it.
enum Loaded {
    /// Nobody.
    Linked,
    /// Whoever is linked to a library whose name begins with one of these.
    Through(&'static [&'static str]),
    /// Programs whose name begins with this.
    By(&'static str),
    /// It is the program itself.
    Itself,
}

const PYTHON: &str = "python";

const ENGINES: &[Engine] = &[
    // Java
    Engine { name: "libjvm.so", loaded: Loaded::Through(&["libjli.so"]) },
    // JavaScript
    Engine { name: "libmozjs-", loaded: Loaded::Linked },
    Engine { name: "libnode.so", loaded: Loaded::Linked },
    Engine { name: "libv8", loaded: Loaded::Linked },
    Engine { name: "libjavascriptcoregtk-", loaded: Loaded::Linked },
    Engine { name: "libQt5Qml.so", loaded: Loaded::Linked },
    Engine { name: "libQt6Qml.so", loaded: Loaded::Linked },
    Engine { name: "node", loaded: Loaded::Itself },
    Engine { name: "nodejs", loaded: Loaded::Itself },
    Engine { name: "deno", loaded: Loaded::Itself },
    Engine { name: "bun", loaded: Loaded::Itself },
    // Python
    Engine { name: "libpypy", loaded: Loaded::Linked },
    Engine { name: "libllvmlite.so", loaded: Loaded::By(PYTHON) },
    Engine { name: "libtorch_cpu.so", loaded: Loaded::By(PYTHON) },
    Engine { name: "xla_extension.so", loaded: Loaded::By(PYTHON) },
    Engine { name: "libtensorflow_cc.so", loaded: Loaded::By(PYTHON) },
    // Lua, Julia, .NET, Erlang
    Engine { name: "libluajit-5.1.so", loaded: Loaded::Linked },
    Engine { name: "luajit", loaded: Loaded::Itself },
    Engine { name: "libjulia.so", loaded: Loaded::Linked },
    Engine { name: "libmono", loaded: Loaded::Linked },
    Engine { name: "libcoreclr.so", loaded: Loaded::By("dotnet") },
    Engine { name: "mono-sgen", loaded: Loaded::Itself },
    Engine { name: "beam.smp", loaded: Loaded::Itself },
    // Compilers used as libraries; Mesa draws with LLVM where there is no graphics card.
    Engine {
        name: "libLLVM",
        loaded: Loaded::Through(&["libGL.so", "libGLX.so", "libEGL.so", "libOSMesa.so", "libvulkan.so"]),
    },
    Engine { name: "libgccjit.so", loaded: Loaded::Linked },
    Engine { name: "libdnnl.so", loaded: Loaded::Linked },
    // Processor emulators
    Engine { name: "qemu-", loaded: Loaded::Itself },
];

/// An ELF file of an application, by its place in it.
pub(crate) type Elves = BTreeMap<String, Rc<Elf>>;

/// The programs that make code while they run, each with the engine by which it was known.
pub(crate) fn find(elves: &Elves) -> BTreeMap<String, String> {
    let by_name = by_name(elves);
    let present: Vec<(&Engine, &str)> = ENGINES
        .iter()
        .filter_map(|engine| {
            let name = elves.keys().map(|place| split(place).1).find(|name| is_named(engine, name))?;
            Some((engine, name))
        })
        .collect();
    let programs = elves.iter().filter(|(_, elf)| elf.is_program);
    let marked = programs.filter_map(|(place, elf)| {
        let loaded = closure(elf, &by_name);
        let engine = present.iter().find(|(engine, _)| is_loaded(engine, split(place).1, &loaded))?;
        Some((place.clone(), engine.1.to_owned()))
    });
    marked.collect()
}

/// Whether a file is an engine. Libraries have a version after their name, programs at most one.
fn is_named(engine: &Engine, name: &str) -> bool {
    name.strip_prefix(engine.name).is_some_and(|rest| {
        !matches!(engine.loaded, Loaded::Itself) || rest.is_empty() || engine.name.ends_with('-')
    })
}

fn is_loaded(engine: &Engine, program: &str, loaded: &HashSet<&str>) -> bool {
    let linked = |prefix: &str| loaded.iter().any(|name| name.starts_with(prefix));
    match engine.loaded {
        Loaded::Itself => is_named(engine, program),
        Loaded::Linked => linked(engine.name),
        Loaded::Through(libraries) => linked(engine.name) || libraries.iter().any(|name| linked(name)),
        Loaded::By(name) => linked(engine.name) || program.starts_with(name),
    }
}

/// Libraries by the names under which others need them.
fn by_name(elves: &Elves) -> HashMap<&str, &Elf> {
    let names = elves.iter().flat_map(|(place, elf)| {
        let soname = elf.soname.as_deref();
        soname.into_iter().chain([split(place).1]).map(move |name| (name, &**elf))
    });
    names.collect()
}

/// The names of all libraries that a file is linked to, directly and indirectly.
fn closure<'a>(elf: &'a Elf, by_name: &HashMap<&'a str, &'a Elf>) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    let mut open = vec![elf];
    while let Some(elf) = open.pop() {
        for name in &elf.needed {
            let name = split(name).1;
            if seen.insert(name) {
                open.extend(by_name.get(name));
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(place, what it needs)`; what lies in a `bin` is a program.
    fn check(files: &[(&str, &[&str])], expect: &[(&str, &str)]) {
        let elf = |place: &str, needed: &[&str]| Elf {
            needed: needed.iter().map(|name| (*name).to_owned()).collect(),
            is_program: place.contains("/bin/"),
            ..Elf::default()
        };
        let elves = files.iter().map(|(place, needed)| ((*place).to_owned(), Rc::new(elf(place, needed))));
        let found = find(&elves.collect());
        let found: Vec<_> = found.iter().map(|(place, engine)| (place.as_str(), engine.as_str())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn who_loads_an_engine_is_marked_and_nobody_else() {
        check(
            &[
                ("/usr/bin/bash", &["libc.so.6"]),
                ("/usr/lib/jvm/bin/java", &["libjli.so", "libc.so.6"]),
                ("/usr/lib/jvm/lib/server/libjvm.so", &["libc.so.6"]),
                ("/usr/lib/jvm/lib/libjli.so", &["libc.so.6"]),
            ],
            &[("/usr/lib/jvm/bin/java", "libjvm.so")],
        );
        check(
            &[
                ("/usr/bin/tool", &["libmiddle.so.1"]),
                ("/usr/lib/libmiddle.so.1", &["libluajit-5.1.so.2"]),
                ("/usr/lib/libluajit-5.1.so.2", &["libmiddle.so.1"]),
            ],
            &[("/usr/bin/tool", "libluajit-5.1.so.2")],
        );
        check(&[("/usr/bin/node", &[]), ("/usr/bin/node-tool", &[])], &[("/usr/bin/node", "node")]);
    }

    #[test]
    fn python_is_marked_only_when_a_compiler_is_among_its_modules() {
        let numpy = "/usr/lib/python3/numpy/core/_multiarray_umath.so";
        let files: [(&str, &[&str]); 2] =
            [("/usr/bin/python3.11", &["libc.so.6"]), (numpy, &["libblas.so.3"])];
        check(&files, &[]);
        let llvmlite: (&str, &[&str]) = ("/usr/lib/python3/llvmlite/binding/libllvmlite.so", &[]);
        check(&[files[0], files[1], llvmlite], &[("/usr/bin/python3.11", "libllvmlite.so")]);
    }

    #[test]
    fn llvm_counts_for_those_that_draw_with_it() {
        let llvm: (&str, &[&str]) = ("/usr/lib/libLLVM-15.so.1", &[]);
        check(&[("/usr/bin/plain", &["libc.so.6"]), llvm], &[]);
        check(&[("/usr/bin/draw", &["libGL.so.1"]), llvm], &[("/usr/bin/draw", "libLLVM-15.so.1")]);
        check(&[("/usr/bin/draw", &["libGL.so.1"])], &[]);
    }
}
