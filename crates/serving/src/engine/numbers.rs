//! A model's trees as numbers, as its worker dumps them.

use serde::Deserialize;
use serde_json::Value;

use crate::inputs::MOST_COLUMNS;

/// A model of more classes is left to Python.
const MOST_CLASSES: usize = 10_000;
/// A model of more nodes is left to Python, which does not dump it either.
const MOST_NODES: usize = 5_000_000;
/// A tree that is deeper than this is left to Python.
const DEEPEST: u32 = 4_096;
/// How many steps one walk is taken for.
const USUAL_DEPTH: usize = 16;

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
    /// How much work one row is, in walks through trees of usual depth.
    pub(crate) walks: usize,
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
    /// Reads a dump of a model that takes `known` columns, where that is known. `None` when its
    /// trees are not trees: it comes from foreign code.
    pub(crate) fn read(content: &[u8], known: Option<usize>) -> Option<Self> {
        let (length, rest) = content.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let head: Head = serde_json::from_slice(text).ok()?;
        let count = head
            .nodes
            .iter()
            .try_fold(0_usize, |n, more| n.checked_add(*more))?;
        if count > MOST_NODES || !head.is_sane(known) {
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
        let mut walks = 0_usize;
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
            let depth = depth(nodes.get(root..)?, root)?;
            walks = walks.saturating_add(1 + depth as usize / USUAL_DEPTH);
        }
        Some(Self {
            head,
            nodes,
            roots,
            values,
            walks,
        })
    }
}

/// How deep a tree is whose first node has the number `root`; `None` when that is too deep.
fn depth(tree: &[Node], root: usize) -> Option<u32> {
    let mut depths = vec![0_u32; tree.len()];
    let mut deepest = 0;
    // A child comes after its parent, whose depth is therefore final.
    for (at, node) in tree.iter().enumerate() {
        deepest = deepest.max(depths[at]);
        for child in [node.left as usize - root, node.right as usize - root] {
            if child > at {
                depths[child] = depths[child].max(depths[at] + 1);
            }
        }
    }
    (deepest <= DEEPEST).then_some(deepest)
}

impl Head {
    /// Whether all counts belong to each other and are small enough to make room for.
    fn is_sane(&self, known: Option<usize>) -> bool {
        let classes = match self.family {
            Family::SklearnClassifier => self.width,
            Family::XgboostSoftmax => self.classes(),
            _ => 2,
        };
        let shaped = match self.family {
            Family::SklearnClassifier => self.groups.is_empty() && self.labels.is_some(),
            Family::XgboostSoftmax => self.width == 1 && self.groups.len() == self.nodes.len(),
            // XGBoost tells groups also where there is one sum.
            _ => {
                self.width == 1 && (self.groups.is_empty() || self.groups.len() == self.nodes.len())
            }
        };
        let named = self.labels.as_ref();
        (1..=MOST_COLUMNS).contains(&self.features)
            && known.is_none_or(|known| known == self.features)
            && (1..=MOST_CLASSES).contains(&self.width)
            && (1..=MOST_CLASSES).contains(&classes)
            && shaped
            && named.is_none_or(|labels| labels.len() == classes)
            && self.groups.iter().all(|class| *class < MOST_CLASSES)
            && !self.nodes.is_empty()
            && !self.nodes.contains(&0)
    }

    /// The classes of a softmax.
    pub(crate) fn classes(&self) -> usize {
        let last = self.groups.iter().max();
        last.map_or(1, |last| last.saturating_add(1))
    }

    /// How many numbers the answer to one row has.
    pub(crate) fn answered(&self) -> usize {
        self.width.max(self.classes()).max(2)
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

    const HEAD: &str = r#"{"family":"lightgbm_sum","width":1,"features":2,"nodes":[3]}"#;
    /// The arrays of a tree of three nodes.
    const TREE: [[i32; 3]; 3] = [[1, -1, -1], [2, -1, -1], [1, -2, -2]];

    fn dump(head: &str, [left, right, feature]: [[i32; 3]; 3]) -> Vec<u8> {
        let mut content = u32::try_from(head.len()).unwrap().to_le_bytes().to_vec();
        content.extend(head.as_bytes());
        for array in [left, right, feature] {
            content.extend(array.iter().flat_map(|x| x.to_le_bytes()));
        }
        content.extend([1, 0, 0]);
        content.extend([0.5_f64, 0.0, 0.0].iter().flat_map(|x| x.to_le_bytes()));
        content.extend([0.0_f64, 1.0, 2.0].iter().flat_map(|x| x.to_le_bytes()));
        // As much as any of the heads below may ask for.
        content.resize(content.len() + 1_000_000, 0);
        content
    }

    fn of_head(head: &str) -> Option<Numbers> {
        Numbers::read(&dump(head, TREE), None)
    }

    #[test]
    fn a_tree_is_read() {
        let numbers = of_head(HEAD).unwrap();
        assert_eq!(numbers.roots, [0]);
        assert_eq!((numbers.nodes[0].left, numbers.nodes[0].right), (1, 2));
        assert_eq!(numbers.nodes[1].left, 1);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let circle = dump(HEAD, [[0, -1, -1], [2, -1, -1], [1, 0, 0]]);
        let back = dump(HEAD, [[1, 0, -1], [2, 2, -1], [1, 0, 0]]);
        let outside = dump(HEAD, [[7, -1, -1], [2, -1, -1], [1, 0, 0]]);
        let half = dump(HEAD, [[1, -1, -1], [-1, -1, -1], [1, 0, 0]]);
        let column = dump(HEAD, [[1, -1, -1], [2, -1, -1], [2, 0, 0]]);
        let below = dump(HEAD, [[1, -1, -1], [2, -1, -1], [-1, 0, 0]]);
        let short = dump(HEAD, TREE)[..80].to_vec();
        let long = u32::MAX.to_le_bytes().to_vec();
        for wrong in [circle, back, outside, half, column, below, short, long] {
            assert!(Numbers::read(&wrong, None).is_none());
        }
    }

    #[test]
    fn more_columns_than_can_be_sent_are_refused() {
        let head =
            |features: usize| HEAD.replace(r#""features":2"#, &format!(r#""features":{features}"#));
        assert!(of_head(&head(MOST_COLUMNS)).is_some());
        for features in [0, MOST_COLUMNS + 1, 1 << 45, usize::MAX] {
            assert!(of_head(&head(features)).is_none(), "{features}");
        }
    }

    #[test]
    fn columns_must_be_as_many_as_the_model_takes() {
        let content = dump(HEAD, TREE);
        assert!(Numbers::read(&content, Some(2)).is_some());
        assert!(Numbers::read(&content, Some(3)).is_none());
    }

    #[test]
    fn leaves_hold_as_many_numbers_as_their_family_adds() {
        let classifier = |width: usize, labels: &str| {
            of_head(&format!(
                r#"{{"family":"sklearn_classifier","width":{width},"features":2,"nodes":[3],"labels":{labels}}}"#
            ))
        };
        assert!(classifier(2, "[0,1]").is_some());
        assert!(classifier(0, "[]").is_none());
        assert!(classifier(2, "[0]").is_none());
        assert!(classifier(2, "null").is_none());
        let many = MOST_CLASSES + 1;
        assert!(classifier(many, &format!("{:?}", vec![0; many])).is_none());
        for width in [0, 2, usize::MAX] {
            let head = HEAD.replace(r#""width":1"#, &format!(r#""width":{width}"#));
            assert!(of_head(&head).is_none(), "{width}");
        }
    }

    #[test]
    fn trees_of_a_softmax_add_to_classes_that_there_are() {
        let softmax = |groups: &str, labels: &str| {
            of_head(&format!(
                r#"{{"family":"xgboost_softmax","width":1,"features":2,"nodes":[1,1,1],"groups":{groups},"labels":{labels}}}"#
            ).replace("[1,1,1]", "[3]"))
        };
        assert!(softmax("[1]", "[0,1]").is_some());
        assert!(softmax("[1]", "null").is_some());
        assert!(softmax("[2]", "[0,1]").is_none());
        assert!(softmax("[]", "null").is_none());
        assert!(softmax("[0,1]", "[0,1]").is_none());
        assert!(softmax("[10000]", "null").is_none());
        assert!(softmax(&format!("[{}]", usize::MAX), "null").is_none());
    }

    #[test]
    fn counts_of_nodes_are_not_believed() {
        for nodes in [
            "[]",
            "[0]",
            "[1000000]",
            "[4294967296]",
            "[18446744073709551615,1]",
        ] {
            let head = HEAD.replace("[3]", nodes);
            assert!(of_head(&head).is_none(), "{nodes}");
        }
    }

    #[test]
    fn a_tree_that_is_one_long_path_is_left_to_python() {
        let path = |length: u32| {
            let tree: Vec<Node> = (0..=2 * length)
                .map(|at| Node {
                    threshold: 0.0,
                    feature: 0,
                    left: if at % 2 == 0 && at < 2 * length {
                        at + 1
                    } else {
                        at
                    },
                    right: if at % 2 == 0 && at < 2 * length {
                        at + 2
                    } else {
                        at
                    },
                    missing: Missing::Right,
                })
                .collect();
            depth(&tree, 0)
        };
        assert_eq!(path(DEEPEST), Some(DEEPEST));
        assert_eq!(path(DEEPEST + 1), None);
    }
}
