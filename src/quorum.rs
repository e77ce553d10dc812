//! Majorities.

/// How many of `members` are a majority.
pub const fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// The largest value that a majority has reached, given the value each member has reached.
pub fn reached_by_majority<T: Copy + Ord>(reached: impl IntoIterator<Item = T>) -> Option<T> {
    let mut reached: Vec<T> = reached.into_iter().collect();
    reached.sort_unstable();
    let behind = reached.len().checked_sub(majority(reached.len()))?;
    reached.get(behind).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(majority), [1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn reached_by_majority_is_the_largest_value_that_enough_members_have() {
        assert_eq!(reached_by_majority(Vec::<u64>::new()), None);
        assert_eq!(reached_by_majority([7]), Some(7));
        assert_eq!(reached_by_majority([9, 1]), Some(1));
        assert_eq!(reached_by_majority([1, 9, 5]), Some(5));
        assert_eq!(reached_by_majority([4, 3, 2, 1]), Some(2));
        assert_eq!(reached_by_majority([5, 5, 1, 1, 9]), Some(5));
    }
}
