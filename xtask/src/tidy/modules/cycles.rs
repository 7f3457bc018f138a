//! Cycles among files.

use super::tree::Edges;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// For each file on a cycle the shortest one, each cycle once. A cycle begins with its first file
/// by name.
pub(super) fn shortest<'a>(edges: &Edges<'a>) -> BTreeSet<Vec<&'a str>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        next.entry(from).or_default().push(to);
    }
    next.keys().filter_map(|file| from(file, &next)).map(rotated).collect()
}

/// The shortest way from a file back to itself, without its end.
fn from<'a>(start: &'a str, next: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut rest = VecDeque::from([start]);
    while let Some(file) = rest.pop_front() {
        for &other in next.get(file).into_iter().flatten() {
            if other == start {
                let mut way = vec![file];
                while let Some(&earlier) = way.last().and_then(|last| before.get(last)) {
                    way.push(earlier);
                }
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(other) {
                before.insert(other, file);
                rest.push_back(other);
            }
        }
    }
    None
}

fn rotated(mut cycle: Vec<&str>) -> Vec<&str> {
    let first = cycle.iter().enumerate().min_by_key(|(_, file)| **file).map_or(0, |(at, _)| at);
    cycle.rotate_left(first);
    cycle
}

#[cfg(test)]
mod tests {
    use super::shortest;
    use crate::tidy::modules::tree::Edges;

    fn cycles(edges: &[(&'static str, &'static str)]) -> Vec<Vec<&'static str>> {
        let edges: Edges<'static> = edges.iter().map(|&edge| (edge, (1, String::new()))).collect();
        shortest(&edges).into_iter().collect()
    }

    #[test]
    fn every_file_on_a_cycle_is_in_one_that_is_reported() {
        assert!(cycles(&[("a", "b"), ("a", "c"), ("b", "c")]).is_empty());
        assert_eq!(cycles(&[("b", "a"), ("a", "b"), ("c", "a")]), [["a", "b"]]);
        let two = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "b")];
        assert_eq!(cycles(&two), [vec!["a", "b"], vec!["b", "c", "d"]]);
    }
}
