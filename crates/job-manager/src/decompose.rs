//! Which subjob is which (§2.1 step 3): from a plan and an index to one subjob's command, files and seed.
//!
//! Nothing is kept per subjob. An index is a number in a mixed radix: the first axis is the slowest digit, then
//! come the chunks of the split, and the repeat is the fastest. So a subjob costs what it is made of, however
//! many brothers it has. What an output's rendered path may be is decided where files are opened, not here.

use model::plan::{Column, Content, Input, Piece, Plan, Template};

/// What one subjob runs and on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    /// File of the working directory that is the program's standard input.
    pub stdin: Option<String>,
    /// The plan's shared inputs, then the files of the subjob's axis values, then its chunk.
    pub inputs: Vec<Input>,
    /// In the order of [`Plan::outputs`].
    pub outputs: Vec<Declared>,
    /// Only for a plan that repeats.
    pub seed: Option<u64>,
}

/// A file that the subjob must leave in its working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub path: String,
    /// Whether its absence is no failure.
    pub optional: bool,
}

/// The subjob at `index`, or nothing if the plan has no such subjob or refers to an axis that it lacks.
pub fn subjob(plan: &Plan, index: u64) -> Option<Work> {
    let place = Place::of(plan, index)?;
    let fill = |template: &Template| place.fill(plan, template);
    Some(Work {
        command: plan.command.iter().map(fill).collect::<Option<_>>()?,
        env: plan
            .env
            .iter()
            .map(|(name, value)| Some((name.clone(), fill(value)?)))
            .collect::<Option<_>>()?,
        stdin: match &plan.stdin {
            Some(path) => Some(fill(path)?),
            None => None,
        },
        inputs: place.inputs(plan)?,
        outputs: plan
            .outputs
            .iter()
            .map(|output| Some(Declared { path: fill(&output.path)?, optional: output.optional }))
            .collect::<Option<_>>()?,
        seed: place.seed(plan),
    })
}

/// The template's text for the subjob at `index`; nothing under the conditions of [`subjob`], or if it asks for
/// the seed of a plan that doesn't repeat.
pub fn render(template: &Template, plan: &Plan, index: u64) -> Option<String> {
    Place::of(plan, index)?.fill(plan, template)
}

/// Where the subjob lies in its plan, for people: a name and a value per column of each axis, then `chunk` and
/// `repeat`, both from 0. Empty if the plan has one subjob only, or none at `index`.
pub fn coordinates(plan: &Plan, index: u64) -> Vec<(String, String)> {
    let Some(place) = Place::of(plan, index) else { return Vec::new() };
    let values = plan.axes.iter().zip(&place.rows).flat_map(|(axis, row)| {
        axis.columns
            .iter()
            .filter_map(|column| column.values.get(*row).map(|value| (column.name.clone(), value.to_owned())))
    });
    let chunk = plan.split.as_ref().map(|_| ("chunk".to_owned(), place.chunk.to_string()));
    let repeat = plan.repeat.map(|_| ("repeat".to_owned(), place.repeat.to_string()));
    values.chain(chunk).chain(repeat).collect()
}

/// The digits of an index.
struct Place {
    index: u64,
    /// Row on each axis.
    rows: Vec<usize>,
    /// 0 if the plan doesn't split.
    chunk: usize,
    /// 0 if the plan doesn't repeat.
    repeat: u64,
}

impl Place {
    fn of(plan: &Plan, index: u64) -> Option<Place> {
        if index >= plan.subjobs()? {
            return None;
        }
        let mut rest = index;
        let mut digit = |radix: u64| {
            let digit = rest % radix;
            rest /= radix;
            digit
        };
        // No radix is 0: the product of all is larger than `index`.
        let repeat = digit(plan.repeat.map_or(1, |repeat| repeat.times));
        let chunk = digit(plan.split.as_ref().map_or(1, |split| split.chunks.len() as u64)) as usize;
        let mut rows: Vec<usize> = plan.axes.iter().rev().map(|axis| digit(axis.rows()) as usize).collect();
        rows.reverse();
        Some(Place { index, rows, chunk, repeat })
    }

    fn fill(&self, plan: &Plan, template: &Template) -> Option<String> {
        let mut text = String::new();
        for piece in &template.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Index { width } => {
                    let width = usize::from(*width);
                    text.push_str(&format!("{:0width$}", self.index));
                }
                Piece::Seed => text.push_str(&self.seed(plan)?.to_string()),
                Piece::Value { axis, column, part } => {
                    let column = plan.axes.get(*axis as usize)?.columns.get(*column as usize)?;
                    text.push_str(part.of(column.values.get(self.rows[*axis as usize])?));
                }
            }
        }
        Some(text)
    }

    fn inputs(&self, plan: &Plan) -> Option<Vec<Input>> {
        let mut inputs = plan.inputs.clone();
        for (axis, row) in plan.axes.iter().zip(&self.rows) {
            for column in &axis.columns {
                if let Some(files) = &column.files {
                    inputs.push(file_of(column, files, *row)?);
                }
            }
        }
        if let Some(split) = &plan.split {
            let chunk = split.chunks.get(self.chunk)?;
            inputs.push(Input { path: split.path.clone(), hash: chunk.hash, size: chunk.size });
        }
        Some(inputs)
    }

    /// Wraps at the end of the range: each subjob of a job still has a seed of its own.
    fn seed(&self, plan: &Plan) -> Option<u64> {
        plan.repeat.map(|repeat| repeat.seed.wrapping_add(self.index))
    }
}

fn file_of(column: &Column, files: &[Content], row: usize) -> Option<Input> {
    let content = files.get(row)?;
    Some(Input { path: column.values.get(row)?.to_owned(), hash: content.hash, size: content.size })
}

#[cfg(test)]
mod tests {
    use model::BlobHash;
    use model::plan::{Axis, Chunk, MAX_SUBJOBS, Output, Repeat, Split, ValuePart};

    use super::*;
    use crate::fixtures::{Xorshift, column, plan, text};

    fn value(axis: u32, column: u32) -> Piece {
        Piece::Value { axis, column, part: ValuePart::Whole }
    }

    fn chunk(number: u8) -> Chunk {
        Chunk { hash: BlobHash([number; 32]), size: u64::from(number), records: 1 }
    }

    /// Two temperatures, three chunks, two repeats.
    fn sweep() -> Plan {
        Plan {
            command: vec![text("md"), Template(vec![Piece::Text("-t=".into()), value(0, 0)])],
            env: vec![("SEED".into(), Template(vec![Piece::Seed]))],
            inputs: vec![Input { path: "field.dat".into(), hash: BlobHash([9; 32]), size: 9 }],
            axes: vec![Axis { columns: vec![column("temp", &["265", "275"])] }],
            split: Some(Split { path: "part.fa".into(), chunks: vec![chunk(1), chunk(2), chunk(3)] }),
            repeat: Some(Repeat { times: 2, seed: 100 }),
            outputs: vec![Output {
                path: Template(vec![Piece::Text("out".into()), Piece::Index { width: 4 }]),
                optional: true,
            }],
            ..plan()
        }
    }

    #[test]
    fn a_subjob_is_read_off_its_index() {
        // 9 = 1·6 + 1·2 + 1: the second temperature, the second chunk, the second repeat.
        let work = subjob(&sweep(), 9).unwrap();
        assert_eq!(work.command, ["md", "-t=275"]);
        assert_eq!(work.env, [("SEED".to_owned(), "109".to_owned())]);
        assert_eq!(work.seed, Some(109));
        assert_eq!(work.outputs, [Declared { path: "out0009".into(), optional: true }]);
        assert_eq!(
            work.inputs.iter().map(|input| input.path.as_str()).collect::<Vec<_>>(),
            ["field.dat", "part.fa"]
        );
        assert_eq!(work.inputs[1].hash, BlobHash([2; 32]));
    }

    #[test]
    fn coordinates_name_each_direction() {
        let check = |index: u64, expect: &[(&str, &str)]| {
            let found = coordinates(&sweep(), index);
            let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expect, "{index}");
        };
        check(0, &[("temp", "265"), ("chunk", "0"), ("repeat", "0")]);
        check(1, &[("temp", "265"), ("chunk", "0"), ("repeat", "1")]);
        check(2, &[("temp", "265"), ("chunk", "1"), ("repeat", "0")]);
        check(11, &[("temp", "275"), ("chunk", "2"), ("repeat", "1")]);
        check(12, &[]);
        assert_eq!(coordinates(&plan(), 0), []);
    }

    #[test]
    fn columns_of_one_axis_vary_together_and_bring_their_files() {
        let mut ligand = column("ligand", &["in/a.pdbqt", "in/b.pdbqt"]);
        ligand.files = Some(vec![
            Content { hash: BlobHash([1; 32]), size: 10 },
            Content { hash: BlobHash([2; 32]), size: 20 },
        ]);
        let plan = Plan {
            command: vec![Template(vec![
                value(0, 1),
                Piece::Text(" ".into()),
                Piece::Value { axis: 0, column: 0, part: ValuePart::Stem },
            ])],
            axes: vec![Axis { columns: vec![ligand, column("box", &["10", "12"])] }],
            ..plan()
        };
        let work = subjob(&plan, 1).unwrap();
        assert_eq!(work.command, ["12 b"]);
        assert_eq!(work.inputs, [Input { path: "in/b.pdbqt".into(), hash: BlobHash([2; 32]), size: 20 }]);
        assert_eq!(work.seed, None);
    }

    #[test]
    fn what_the_plan_lacks_is_no_subjob() {
        assert_eq!(subjob(&sweep(), 12), None);
        assert_eq!(subjob(&sweep(), u64::MAX), None);
        assert!(subjob(&plan(), 0).is_some());
        assert_eq!(subjob(&plan(), 1), None);
        let command = |piece: Piece| Plan { command: vec![Template(vec![piece])], ..plan() };
        assert_eq!(subjob(&command(value(0, 0)), 0), None);
        assert_eq!(subjob(&command(Piece::Seed), 0), None);
        let nothing = Plan { repeat: Some(Repeat { times: 0, seed: 0 }), ..plan() };
        assert_eq!(subjob(&nothing, 0), None);
        let ragged = Plan {
            axes: vec![Axis { columns: vec![column("a", &["1", "2"]), column("b", &["1"])] }],
            ..plan()
        };
        assert_eq!(render(&Template(vec![value(0, 1)]), &ragged, 0).as_deref(), Some("1"));
        assert_eq!(render(&Template(vec![value(0, 1)]), &ragged, 1), None);
    }

    #[test]
    fn the_largest_job_is_addressed_directly() {
        let plan = Plan { repeat: Some(Repeat { times: MAX_SUBJOBS, seed: u64::MAX }), ..plan() };
        assert_eq!(subjob(&plan, MAX_SUBJOBS - 1).unwrap().seed, Some(MAX_SUBJOBS - 2));
        assert_eq!(subjob(&plan, MAX_SUBJOBS), None);
    }

    #[test]
    fn each_combination_occurs_exactly_once_and_in_order() {
        let mut random = Xorshift::new(20_050_611);
        for _ in 0..300 {
            let plan = random_plan(&mut random);
            let expect = combinations(&plan);
            assert_eq!(plan.subjobs(), Some(expect.len() as u64));
            for (index, expect) in (0u64..).zip(&expect) {
                let found: Vec<String> =
                    coordinates(&plan, index).into_iter().map(|(_, value)| value).collect();
                assert_eq!(found, *expect, "{index}");
                let work = subjob(&plan, index).unwrap();
                assert_eq!(work.command, expect[..plan.axes.len()]);
                if plan.split.is_some() {
                    assert_eq!(work.inputs[0].hash.0[0].to_string(), expect[plan.axes.len()]);
                }
            }
            assert_eq!(subjob(&plan, expect.len() as u64), None);
        }
    }

    /// A plan whose command lists its values.
    fn random_plan(random: &mut Xorshift) -> Plan {
        let axes: Vec<Axis> = (0..random.below(4))
            .map(|_| {
                let values: Vec<String> = (0..=random.below(4)).map(|row| format!("v{row}")).collect();
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                Axis { columns: vec![column("axis", &values)] }
            })
            .collect();
        let chunks = random.below(5) as u8;
        let times = random.below(5);
        Plan {
            command: (0..axes.len() as u32).map(|axis| Template(vec![value(axis, 0)])).collect(),
            axes,
            split: (chunks > 0)
                .then(|| Split { path: "part".into(), chunks: (0..chunks).map(chunk).collect() }),
            repeat: (times > 0).then(|| Repeat { times, seed: random.below(100) }),
            ..plan()
        }
    }

    /// The same by brute force: nested loops, outermost first.
    fn combinations(plan: &Plan) -> Vec<Vec<String>> {
        let mut directions: Vec<Vec<String>> = Vec::new();
        for axis in &plan.axes {
            directions.push(axis.columns[0].values.iter().map(str::to_owned).collect());
        }
        if let Some(split) = &plan.split {
            directions.push((0..split.chunks.len()).map(|chunk| chunk.to_string()).collect());
        }
        if let Some(repeat) = plan.repeat {
            directions.push((0..repeat.times).map(|repeat| repeat.to_string()).collect());
        }
        directions.iter().fold(vec![Vec::new()], |outer, direction| {
            let inner = |outer: &Vec<String>| {
                let outer = outer.clone();
                direction.iter().map(move |value| [outer.as_slice(), std::slice::from_ref(value)].concat())
            };
            outer.iter().flat_map(inner).collect()
        })
    }
}
