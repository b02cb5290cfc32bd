//! A model's trees as numbers, as its worker dumps them.

use serde::Deserialize;
use serde_json::Value;

/// A softmax over more classes is left to Python.
const MOST_CLASSES: usize = 10_000;

/// What kind of arithmetic is done over the trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    SklearnClassifier,
    SklearnRegressor,
    XgboostLogistic,
    XgboostSoftmax,
    XgboostSum,
    LightgbmLogistic,
    LightgbmSum,
}

/// What is done with NaN at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Right,
    Left,
    Zero,
}

/// A node. A leaf's left child is itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) threshold: f64,
    pub(crate) feature: u32,
    pub(crate) left: u32,
    pub(crate) right: u32,
    pub(crate) missing: Missing,
}

/// All numbers of one model.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    pub(crate) head: Head,
    /// Of all trees, one after the other; children count from the first of all.
    pub(crate) nodes: Vec<Node>,
    /// The first node of each tree.
    pub(crate) roots: Vec<u32>,
    /// `width` values for each node.
    pub(crate) values: Vec<f64>,
}

/// What the numbers belong to.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Head {
    pub(crate) family: Family,
    /// Values of a leaf.
    pub(crate) width: usize,
    /// Columns of a row.
    pub(crate) features: usize,
    /// How many nodes each tree has.
    nodes: Vec<usize>,
    /// What a classifier answers for each class; a booster answers numbers.
    pub(crate) labels: Option<Vec<Value>>,
    /// XGBoost's start, as a probability for the logistic family.
    #[serde(default)]
    pub(crate) base: Vec<f64>,
    /// The class that each tree of a softmax adds to.
    #[serde(default)]
    pub(crate) groups: Vec<usize>,
}

impl Numbers {
    /// Reads a dump. `None` when its trees are not trees: it comes from foreign code.
    pub(crate) fn read(content: &[u8]) -> Option<Self> {
        let (length, rest) = content.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let head: Head = serde_json::from_slice(text).ok()?;
        let count = head
            .nodes
            .iter()
            .try_fold(0_usize, |n, more| n.checked_add(*more))?;
        let grouped = head.groups.is_empty() || head.groups.len() == head.nodes.len();
        let sane = head.features > 0
            && head.width > 0
            && !head.nodes.is_empty()
            && !head.nodes.contains(&0)
            && grouped
            && head.groups.iter().all(|class| *class < MOST_CLASSES);
        if !sane {
            return None;
        }
        let mut arrays = Arrays(rest);
        let left = arrays.take(count, i32::from_le_bytes)?;
        let right = arrays.take(count, i32::from_le_bytes)?;
        let feature = arrays.take(count, i32::from_le_bytes)?;
        let missing = arrays.take(count, |[byte]| byte)?;
        let threshold = arrays.take(count, f64::from_le_bytes)?;
        let values = arrays.take(count.checked_mul(head.width)?, f64::from_le_bytes)?;
        let mut nodes = Vec::with_capacity(count);
        let mut roots = Vec::with_capacity(head.nodes.len());
        for size in &head.nodes {
            let root = nodes.len();
            roots.push(u32::try_from(root).ok()?);
            for at in root..root + size {
                let child = |child: i32| {
                    let child = usize::try_from(child).ok().filter(|child| child < size)?;
                    // A child after its parent: no walk goes in circles.
                    let child = root + child;
                    (child > at).then(|| u32::try_from(child).ok())?
                };
                let here = u32::try_from(at).ok()?;
                let (left, right, feature) = if left[at] < 0 {
                    (here, here, 0)
                } else {
                    let feature = u32::try_from(feature[at]).ok()?;
                    (child(left[at])?, child(right[at])?, feature)
                };
                if feature as usize >= head.features {
                    return None;
                }
                nodes.push(Node {
                    threshold: threshold[at],
                    feature,
                    left,
                    right,
                    missing: match missing[at] {
                        0 => Missing::Right,
                        1 => Missing::Left,
                        _ => Missing::Zero,
                    },
                });
            }
        }
        Some(Self {
            head,
            nodes,
            roots,
            values,
        })
    }
}

struct Arrays<'a>(&'a [u8]);

impl Arrays<'_> {
    fn take<const N: usize, T>(&mut self, count: usize, read: fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (bytes, rest) = self.0.split_at_checked(count.checked_mul(N)?)?;
        self.0 = rest;
        let (chunks, _) = bytes.as_chunks::<N>();
        Some(chunks.iter().map(|chunk| read(*chunk)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(left: [i32; 3], right: [i32; 3], feature: [i32; 3]) -> Vec<u8> {
        let head = br#"{"family":"lightgbm_sum","width":1,"features":2,"nodes":[3]}"#;
        let mut content = u32::try_from(head.len()).unwrap().to_le_bytes().to_vec();
        content.extend(head);
        for array in [left, right, feature] {
            content.extend(array.iter().flat_map(|x| x.to_le_bytes()));
        }
        content.extend([1, 0, 0]);
        content.extend([0.5_f64, 0.0, 0.0].iter().flat_map(|x| x.to_le_bytes()));
        content.extend([0.0_f64, 1.0, 2.0].iter().flat_map(|x| x.to_le_bytes()));
        content
    }

    #[test]
    fn a_tree_is_read() {
        let numbers = Numbers::read(&dump([1, -1, -1], [2, -1, -1], [1, -2, -2])).unwrap();
        assert_eq!(numbers.roots, [0]);
        assert_eq!((numbers.nodes[0].left, numbers.nodes[0].right), (1, 2));
        assert_eq!(numbers.nodes[1].left, 1);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let circle = dump([0, -1, -1], [2, -1, -1], [1, 0, 0]);
        let outside = dump([7, -1, -1], [2, -1, -1], [1, 0, 0]);
        let column = dump([1, -1, -1], [2, -1, -1], [2, 0, 0]);
        let short = dump([1, -1, -1], [2, -1, -1], [1, 0, 0])[..80].to_vec();
        for wrong in [circle, outside, column, short] {
            assert!(Numbers::read(&wrong).is_none());
        }
    }
}
