//! The flow schemas and priority levels that every cluster has.

use trireme_schema::{Value, json};

/// The objects, levels first: kind, and object.
pub(crate) fn objects() -> Vec<(String, Value)> {
    let list = json::parse(include_bytes!("bootstrap.json")).unwrap_or_default();
    let annotate = |object: &Value| {
        let mut object = object.clone();
        object.set_at(&["metadata", "annotations", "apf.kubernetes.io/autoupdate-spec"], "true");
        (object.str_at(&["kind"]).to_owned(), object)
    };
    list.as_array().unwrap_or_default().iter().map(annotate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_names_a_level_that_is_there() {
        let all = objects();
        let levels: Vec<&str> = all
            .iter()
            .filter(|(kind, _)| kind == "PriorityLevelConfiguration")
            .map(|(_, o)| o.str_at(&["metadata", "name"]))
            .collect();
        assert_eq!((levels.len(), all.len()), (8, 19));
        for (_, schema) in all.iter().filter(|(kind, _)| kind == "FlowSchema") {
            assert!(levels.contains(&schema.str_at(&["spec", "priorityLevelConfiguration", "name"])));
        }
    }
}
