//! Things in order of appearance.

/// Each once.
pub fn unique<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut unique = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}

/// Those with the same key together.
pub fn grouped<K: PartialEq, T>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for item in items {
        let key = key(&item);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, members)) => members.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_appearance_counts() {
        assert_eq!(unique([3, 1, 3, 2, 1]), [3, 1, 2]);
        let groups = grouped([3, 1, 5, 2, 4], |n| n % 2);
        assert_eq!(groups, [(1, vec![3, 1, 5]), (0, vec![2, 4])]);
    }
}
