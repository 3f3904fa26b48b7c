//! Which of our crates may depend on which. An edge that is not in the table is a design change: argue it in a
//! decision record, then change the table.

use std::collections::BTreeSet;

use super::Finding;
use crate::workspace::Crate;

/// Who may use whom among our own crates, tests included. A crate may use only what stands above it here, so
/// there can be no circle.
const EDGES: &[(&str, Uses)] = &[
    ("model", Uses::Only(&[])),
    ("protocol", Uses::Only(&["model"])),
    ("job-manager", Uses::Only(&["model"])),
    ("resource-scheduler", Uses::Only(&["model"])),
    ("node-manager", Uses::Only(&["model"])),
    ("link", Uses::Only(&["protocol", "model"])),
    ("portal-loader", Uses::Only(&[])),
    ("wrap", Uses::Only(&["portal-loader", "protocol", "model"])),
    ("sandbox", Uses::Only(&["portal-loader", "protocol", "model"])),
    ("sandbox-fs", Uses::Only(&["protocol", "model"])),
    (
        "server",
        Uses::Only(&["job-manager", "resource-scheduler", "node-manager", "link", "protocol", "model"]),
    ),
    ("desktop-controller", Uses::Only(&["sandbox", "sandbox-fs", "link", "protocol", "model"])),
    (
        "dcgrid",
        Uses::Only(&[
            "server",
            "wrap",
            "desktop-controller",
            "sandbox",
            "sandbox-fs",
            "link",
            "protocol",
            "model",
        ]),
    ),
    ("grid-tests", Uses::Anything),
    ("xtask", Uses::Only(&[])),
];

#[derive(Clone, Copy, Debug)]
enum Uses {
    Only(&'static [&'static str]),
    Anything,
}

/// Findings about crates that are not in the table and about edges that it does not have.
pub fn check(crates: &[Crate]) -> Vec<Finding> {
    crates.iter().flat_map(check_crate).collect()
}

fn check_crate(package: &Crate) -> Vec<Finding> {
    let Some((_, uses)) = EDGES.iter().find(|(name, _)| *name == package.name) else {
        let text =
            format!("the crate '{}' is not in the table of edges (xtask/src/tidy/edges.rs)", package.name);
        return vec![Finding::of(&package.manifest, text)];
    };
    let Uses::Only(allowed) = uses else { return Vec::new() };
    let ours = package.dependencies.iter().filter(|dependency| dependency.ours);
    let names: BTreeSet<&str> = ours.map(|dependency| dependency.name.as_str()).collect();
    names
        .into_iter()
        .filter(|name| !allowed.contains(name))
        .map(|name| {
            let may = if allowed.is_empty() { "none of our crates".to_owned() } else { allowed.join(", ") };
            Finding::of(&package.manifest, format!("'{}' may use {may}, not '{name}'", package.name))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::told;
    use crate::workspace::Dependency;

    fn check(name: &str, ours: &[&str], expect: &[&str]) {
        let dependency = |name: &&str| Dependency { name: (*name).to_owned(), ours: true, dev: true };
        let mut dependencies: Vec<Dependency> = ours.iter().map(dependency).collect();
        dependencies.push(Dependency { name: "serde".into(), ours: false, dev: false });
        let package = Crate { name: name.into(), dependencies, ..Crate::default() };
        assert_eq!(told(&check_crate(&package)), expect);
    }

    #[test]
    fn the_edges_of_the_design_pass() {
        check("protocol", &["model"], &[]);
        check("server", &["job-manager", "resource-scheduler", "node-manager", "link", "protocol"], &[]);
        check("dcgrid", &["server", "wrap", "desktop-controller", "link"], &[]);
        check("grid-tests", &["server", "job-manager", "dcgrid"], &[]);
    }

    #[test]
    fn every_other_edge_fails_in_tests_too() {
        check("model", &["protocol"], &["0 'model' may use none of our crates, not 'protocol'"]);
        check(
            "job-manager",
            &["resource-scheduler"],
            &["0 'job-manager' may use model, not 'resource-scheduler'"],
        );
        check("sandbox", &["link"], &["0 'sandbox' may use portal-loader, protocol, model, not 'link'"]);
        check("xtask", &["model"], &["0 'xtask' may use none of our crates, not 'model'"]);
        for layer in ["job-manager", "resource-scheduler", "node-manager"] {
            let package = Crate {
                name: "dcgrid".into(),
                dependencies: vec![Dependency { name: layer.into(), ours: true, dev: false }],
                ..Crate::default()
            };
            assert_eq!(check_crate(&package).len(), 1, "{layer}");
        }
    }

    #[test]
    fn a_crate_must_be_in_the_table() {
        let told = "0 the crate 'helpers' is not in the table of edges (xtask/src/tidy/edges.rs)";
        check("helpers", &[], &[told]);
    }

    #[test]
    fn the_table_has_no_circle() {
        for (index, (name, uses)) in EDGES.iter().enumerate() {
            let Uses::Only(allowed) = uses else { continue };
            let above: Vec<&str> = EDGES[..index].iter().map(|(name, _)| *name).collect();
            for used in *allowed {
                assert!(above.contains(used), "'{name}' uses '{used}', which stands below it");
            }
        }
    }
}
