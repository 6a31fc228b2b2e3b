use std::any::TypeId;
use std::borrow::Cow;

/// A served resource: what a path of the API is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: Cow<'static, str>,
    /// Version within the group, such as `v1`.
    pub version: Cow<'static, str>,
    /// Kind, such as `Pod`.
    pub kind: Cow<'static, str>,
    /// Plural name as it stands in paths, such as `pods`.
    pub plural: Cow<'static, str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// `group/version`, or the version alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of the collection: of one namespace, or of all when `namespace` is `None`.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace.filter(|_| self.namespaced) {
            Some(ns) => format!("{root}/namespaces/{ns}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    /// The path of one object.
    pub fn object(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }
}

/// A type that is read from, or written to, objects of one resource.
///
/// Every `k8s-openapi` resource is one. A component that needs a few fields of many objects declares a struct with just
/// those fields and implements `Kind` for it.
pub trait Kind: Send + Sync + 'static {
    /// Where objects of this kind are served.
    fn resource() -> Resource;
}

impl<T> Kind for T
where
    T: k8s_openapi::Resource + Send + Sync + 'static,
    T::Scope: 'static,
{
    fn resource() -> Resource {
        Resource {
            group: Cow::Borrowed(T::GROUP),
            version: Cow::Borrowed(T::VERSION),
            kind: Cow::Borrowed(T::KIND),
            plural: Cow::Borrowed(T::URL_PATH_SEGMENT),
            namespaced: TypeId::of::<T::Scope>() == TypeId::of::<k8s_openapi::NamespaceResourceScope>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};

    #[test]
    fn paths_are_those_of_the_api() {
        let deployment = Deployment::resource();
        assert_eq!(deployment.object(Some("web"), "a"), "/apis/apps/v1/namespaces/web/deployments/a");
        assert_eq!(deployment.collection(None), "/apis/apps/v1/deployments");
        assert_eq!(Node::resource().object(Some("ignored"), "n1"), "/api/v1/nodes/n1");
        assert_eq!(deployment.api_version(), "apps/v1");
        assert_eq!(Node::resource().api_version(), "v1");
    }
}
