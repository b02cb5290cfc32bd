//! Shares of requests as numbers of pods: a Service gives each of its pods the same.

/// The most pods of an endpoint whose members share.
const MOST: u32 = 20;

/// How many pods each member gets, from the replicas and the percent that each should have. One
/// alone has what it should; several get the fewest pods that come nearest to their percents, each
/// one at least, and no less together than the greatest of them should have alone.
pub(super) fn pods(members: &[(u32, u32)]) -> Vec<u32> {
    if let [(replicas, _)] = members {
        return vec![*replicas];
    }
    let least = members
        .iter()
        .map(|(replicas, _)| *replicas)
        .max()
        .unwrap_or(1);
    let count = u32::try_from(members.len()).unwrap_or(MOST);
    let totals = least.max(count)..=MOST.max(count);
    let tries = totals.map(|total| {
        let part = |(_, percent): &(u32, u32)| ((total * percent + 50) / 100).max(1);
        members.iter().map(part).collect::<Vec<u32>>()
    });
    // The first of equals is the one with the fewest pods.
    tries
        .min_by_key(|pods| error(members, pods))
        .unwrap_or_default()
}

/// How far the farthest member is from its percent, in hundredths of a percent.
fn error(members: &[(u32, u32)], pods: &[u32]) -> u32 {
    let total: u32 = pods.iter().sum();
    let far = members.iter().zip(pods);
    far.map(|((_, percent), pods)| (pods * 10_000 / total.max(1)).abs_diff(percent * 100))
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::pods;

    #[test]
    fn one_alone_has_its_replicas() {
        assert_eq!(pods(&[(3, 100)]), [3]);
        assert_eq!(pods(&[]), [0; 0]);
    }

    #[test]
    fn shares_are_met_with_few_pods() {
        assert_eq!(pods(&[(2, 50), (2, 50)]), [1, 1]);
        assert_eq!(pods(&[(2, 80), (2, 20)]), [4, 1]);
        assert_eq!(pods(&[(2, 90), (1, 10)]), [9, 1]);
        assert_eq!(pods(&[(2, 75), (1, 25)]), [3, 1]);
        // Nearest within twenty pods.
        assert_eq!(pods(&[(2, 99), (2, 1)]), [20, 1]);
    }
}
