//! docs/unsafe.md lists every file with `unsafe` and how often: this counts again.

use std::collections::BTreeMap;
use std::path::Path;

/// Files of `folder` with their content, as paths from the repository's root.
fn sources(folder: &str, found: &mut Vec<(String, String)>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            sources(&path, found);
        } else if path.ends_with(".rs") {
            found.push((path, std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// How often the word stands in code: not in comments, and not as a part of another word.
fn count(source: &str) -> usize {
    let code = source.lines().filter_map(|line| line.split("//").next());
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.flat_map(|line| line.split(|c| !is_part(c))).filter(|word| *word == "unsafe").count()
}

#[test]
fn the_inventory_is_complete() {
    let mut found = Vec::new();
    sources("src", &mut found);
    sources("kernels/src", &mut found);
    sources("capi/src", &mut found);
    let found: BTreeMap<&str, usize> = found
        .iter()
        .map(|(path, source)| (path.as_str(), count(source)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let page = include_str!("../docs/unsafe.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeMap<&str, usize> = rows
        .map(|row| {
            let (path, rest) = row.split_once("` | ").unwrap();
            (path, rest.split(' ').next().unwrap().parse().unwrap())
        })
        .collect();
    let mut wrong = Vec::new();
    for (path, count) in &found {
        if listed.get(path) != Some(count) {
            wrong.push(format!("{path}: {count} now, {:?} listed", listed.get(path)));
        }
    }
    wrong.extend(
        listed
            .keys()
            .filter(|path| !found.contains_key(*path))
            .map(|path| format!("{path}: listed, and has none")),
    );
    println!("cases: {} uses of `unsafe` in {} files", found.values().sum::<usize>(), found.len());
    assert!(wrong.is_empty(), "docs/unsafe.md: look at what changed, then at the page: {wrong:#?}");
}
