use std::sync::Arc;
use trireme_client::{Context, Error, Https, Transport};

/// How a simulation reaches the API.
pub trait Access: Send + Sync + 'static {
    /// As the administrator, who watches pods, reads metrics, and removes nodes in the end.
    fn admin(&self) -> Arc<dyn Transport>;

    /// As a node.
    ///
    /// # Errors
    /// When its name cannot be told.
    fn node(&self, index: usize, name: &str) -> Result<Arc<dyn Transport>, Error>;
}

/// So many nodes share a connection: each has a watch and makes a call or two, and servers take from 100 (Go's old
/// default: 250) streams on a connection.
const TOGETHER: usize = 80;

/// Over HTTPS, with the rights of a kubeconfig's user; nodes are impersonated.
pub struct OverHttps {
    admin: Https,
    connections: Vec<Https>,
}

impl OverHttps {
    /// The way of so many nodes to a server.
    ///
    /// # Errors
    /// What is wrong with authorities, certificate or key.
    pub fn new(context: &Context, nodes: usize) -> Result<Self, String> {
        let https = || Ok::<_, String>(Https::new(context.https()?));
        let connections = (0..nodes.div_ceil(TOGETHER)).map(|_| https()).collect::<Result<_, _>>()?;
        Ok(Self { admin: https()?, connections })
    }
}

impl Access for OverHttps {
    fn admin(&self) -> Arc<dyn Transport> {
        Arc::new(self.admin.clone())
    }

    fn node(&self, index: usize, name: &str) -> Result<Arc<dyn Transport>, Error> {
        let https = self.connections.get(index / TOGETHER).unwrap_or(&self.admin);
        let user = format!("system:node:{name}");
        Ok(Arc::new(https.impersonating(&user, &["system:nodes", "system:authenticated"])?))
    }
}
