//! What a pod's containers ask for together.

use crate::amounts::{Amounts, raise, read, sum};
use trireme_schema::Value;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is kept free for it.
    Requests,
    /// What it cannot go beyond.
    Limits,
}

impl Side {
    /// The field's name.
    pub fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// What a container, or the pod itself, asks for.
pub fn of_container(container: &Value, side: Side) -> Amounts {
    read(container.at(&["resources", side.field()]))
}

/// The amounts of a pod: those of its containers together, or of its init containers at their peak (KEP-753), or what
/// the pod itself names (KEP-2837), and its overhead.
pub fn totals(spec: &Value, side: Side) -> Amounts {
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.list_at(&["initContainers"]) {
        let mut own = of_container(container, side);
        if container.str_at(&["restartPolicy"]) == "Always" {
            sum(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            sum(&mut own, &sidecars);
            raise(&mut peak, &own);
        }
    }
    let mut total = sidecars;
    for container in spec.list_at(&["containers"]) {
        sum(&mut total, &of_container(container, side));
    }
    raise(&mut total, &peak);
    total.extend(of_container(spec, side));
    let mut overhead = read(spec.at(&["overhead"]));
    if side == Side::Limits {
        // Overhead raises limits, but sets none.
        overhead.retain(|name, _| total.contains_key(name));
    }
    sum(&mut total, &overhead);
    total
}
