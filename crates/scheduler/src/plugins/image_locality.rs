use crate::framework::MAX_SCORE;
use crate::{Cluster, NodeInfo, Plugin, PodInfo, Scores};

/// Below this size in bytes an image is pulled so fast that where it is does not matter.
const SMALL: i64 = 23 << 20;
/// Images of this size and above count in full, for each container.
const LARGE: i64 = 1_000 << 20;

/// Nodes that have the pod's images are liked.
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self, pod: &PodInfo, nodes: &[&NodeInfo], _cluster: &Cluster) -> Option<Scores> {
        let containers = i64::try_from(pod.images.len()).ok().filter(|n| *n > 0)?;
        let having = |image: &str| nodes.iter().filter(|node| size(node, image) > 0).count();
        let spread: Vec<i64> = pod.images.iter().map(|image| i64::try_from(having(image)).unwrap_or(0)).collect();
        if spread.iter().all(|nodes| *nodes == 0) {
            return None;
        }
        let all = i64::try_from(nodes.len()).ok().filter(|n| *n > 0)?;
        let score = |node: &&NodeInfo| {
            // An image that few nodes have counts for less, so that they are not overrun.
            let sum: i64 = pod.images.iter().zip(&spread).map(|(image, spread)| size(node, image) * spread / all).sum();
            let most = LARGE * containers;
            (sum.clamp(SMALL, most) - SMALL) * MAX_SCORE / (most - SMALL)
        };
        Some(nodes.iter().map(score).collect())
    }
}

fn size(node: &NodeInfo, image: &str) -> i64 {
    let found = node.images.get(image).or_else(|| {
        // A name without a tag or digest stands for the tag `latest`.
        let last = image.rsplit('/').next().unwrap_or(image);
        (!last.contains([':', '@'])).then(|| node.images.get(format!("{image}:latest").as_str())).flatten()
    });
    found.copied().unwrap_or(0)
}
