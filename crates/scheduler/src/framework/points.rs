/// A place in the life of a decision at which plugins are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Point {
    /// Before a pod is ready to be tried.
    PreEnqueue,
    /// Which pod goes first.
    QueueSort,
    /// Once per decision, before nodes are looked at.
    PreFilter,
    /// Whether a node can take the pod.
    Filter,
    /// When no node can.
    PostFilter,
    /// Once per decision, before nodes are compared.
    PreScore,
    /// How much a node is liked.
    Score,
    /// When a node has been chosen.
    Reserve,
    /// Whether the pod may be bound now.
    Permit,
    /// What has to happen before the binding.
    PreBind,
    /// The binding.
    Bind,
    /// After the binding.
    PostBind,
}

/// Several points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points(u16);

impl Point {
    /// All points, in the order of a pod's way.
    pub const ALL: [Self; 12] = [
        Self::PreEnqueue,
        Self::QueueSort,
        Self::PreFilter,
        Self::Filter,
        Self::PostFilter,
        Self::PreScore,
        Self::Score,
        Self::Reserve,
        Self::Permit,
        Self::PreBind,
        Self::Bind,
        Self::PostBind,
    ];

    /// Name, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreEnqueue => "PreEnqueue",
            Self::QueueSort => "QueueSort",
            Self::PreFilter => "PreFilter",
            Self::Filter => "Filter",
            Self::PostFilter => "PostFilter",
            Self::PreScore => "PreScore",
            Self::Score => "Score",
            Self::Reserve => "Reserve",
            Self::Permit => "Permit",
            Self::PreBind => "PreBind",
            Self::Bind => "Bind",
            Self::PostBind => "PostBind",
        }
    }
}

impl Points {
    /// These points.
    pub const fn of(points: &[Point]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < points.len() {
            bits |= 1 << points[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// The same and one more.
    #[must_use]
    pub const fn with(self, point: Point) -> Self {
        Self(self.0 | 1 << point as u8)
    }

    /// Whether a point is among them.
    pub const fn has(self, point: Point) -> bool {
        self.0 & (1 << point as u8) != 0
    }
}
