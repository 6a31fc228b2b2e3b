use crate::framework::{Context, CycleState, MAX_SCORE, Plugin, Point, Points};
use crate::{Cluster, NodeInfo, PodInfo};

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

    fn points(&self) -> Points {
        Points::of(&[Point::Score])
    }

    fn epoch(&self, pod: &PodInfo, cluster: &Cluster) -> u64 {
        // Nodes that come or go change the share of all nodes that have an image, too; but only of images that are known.
        let versions = pod.images.iter().map(|image| named(image, |name| Some(cluster.image(name).version)));
        versions.flatten().fold(0, |sum, version| if version == 0 { sum } else { sum + version + cluster.len() as u64 })
    }

    fn score(&self, cx: Context<'_>, _state: &CycleState, node: &NodeInfo) -> i64 {
        if node.spec.images.is_empty() {
            return 0;
        }
        let all = cx.cluster.len().max(1) as f64;
        // An image that few nodes have counts for less, so that they are not overrun.
        let worth = |image: &str| {
            named(image, |name| {
                let size = *node.spec.images.get(name)?;
                Some((size as f64 * (cx.cluster.image(name).nodes as f64 / all)) as i64)
            })
        };
        let sum: i64 = cx.pod.images.iter().filter_map(|image| worth(image)).sum();
        let most = LARGE * i64::try_from(cx.pod.images.len()).unwrap_or(i64::MAX / LARGE).max(1);
        (sum.clamp(SMALL, most) - SMALL) * MAX_SCORE / (most - SMALL)
    }
}

/// Looks an image up; a name without a tag or digest stands for the tag `latest`.
fn named<T>(image: &str, look_up: impl Fn(&str) -> Option<T>) -> Option<T> {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') { look_up(image) } else { look_up(&format!("{image}:latest")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pod, scores};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn large_images_count_by_their_size_and_by_how_many_nodes_have_them() {
        let with = |images: &[(&str, i64)]| {
            let images = images.iter().map(|(name, mib)| ((*name).into(), mib << 20)).collect();
            Arc::new(crate::NodeSpec { images, ..crate::NodeSpec::default() })
        };
        let nodes =
            [with(&[("big:latest", 1_000)]), with(&[("big:latest", 1_000), ("tiny:1", 10)]), with(&[("tiny:1", 10)])];
        let of = |image: &str| pod("p", json!({"containers": [{"image": image}]}));
        // Two of three nodes have it: 666 MiB of the 1,000, less the 23 that do not count.
        assert_eq!(scores(&ImageLocality, &of("big"), &nodes), [65, 65, 0]);
        assert_eq!(scores(&ImageLocality, &of("tiny:1"), &nodes), [0, 0, 0]);
    }
}
