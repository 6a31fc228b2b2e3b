//! The command line. Flag names are those that operators of small distributions know.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cidr::Cidr;
use crate::duration;
use crate::ports::PortRange;
use crate::security::Security;
use crate::simulate::Simulate;
use trireme_node::Thresholds;

/// Kubernetes, whole, in one binary.
#[derive(Debug, Parser)]
#[command(name = "trireme", version = crate::version::TEXT, args_override_self = true, infer_subcommands = true)]
#[command(after_help = "Examples:
  sudo trireme up                        run a whole cluster here
  sudo trireme up --demo                 ... with a small web application in it
  sudo trireme server                    run a control plane and a node
  sudo trireme agent --server URL --token TOKEN
                                         join this machine as a node
  sudo trireme down                      stop the workloads too
  sudo trireme uninstall --yes           leave nothing behind")]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Configuration file; its keys are the long flags' names
    #[arg(long, global = true, env = "TRIREME_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything lives
    #[arg(
        long,
        short = 'd',
        global = true,
        env = "TRIREME_DATA_DIR",
        value_name = "DIR",
        default_value = "/var/lib/trireme"
    )]
    pub data_dir: PathBuf,
    /// What to log: error, warn, info, debug, trace, or per part (info,trireme_node=debug)
    #[arg(long, global = true, env = "TRIREME_LOG_LEVEL", value_name = "LEVEL", default_value = "warn")]
    pub log_level: String,
    /// How log lines look: text or json
    #[arg(long, global = true, env = "TRIREME_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: trireme_telemetry::Format,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine, in the foreground
    #[command(after_help = "Examples:
  sudo trireme up
  sudo trireme up --demo
  sudo trireme up --data-dir /srv/b --https-listen-port 7443 --cluster-cidr 10.52.0.0/16 --service-cidr 10.53.0.0/16

Ctrl-C stops Trireme and leaves the workloads running; `trireme down` stops them too.")]
    Up(Box<Up>),
    /// Run a control plane that agents join, and a node on this machine
    #[command(after_help = "Example:
  sudo trireme server
  sudo cat /var/lib/trireme/node-token    what agents join with")]
    Server(Box<Server>),
    /// Join this machine to a cluster as a node
    #[command(after_help = "Example:
  sudo trireme agent --server https://10.0.0.1:6443 --token K10...::node:...")]
    Agent(Box<Agent>),
    /// Stop Trireme and the workloads of this machine
    #[command(after_help = "Examples:
  sudo trireme down
  sudo trireme down --data-dir /srv/b    the one that lives there

What is stored stays: `trireme up` brings the workloads back.")]
    Down,
    /// Remove everything that Trireme made on this machine
    #[command(after_help = "Examples:
  sudo trireme uninstall --yes
  sudo trireme uninstall --data-dir /srv/b --yes")]
    Uninstall(Uninstall),
    /// Print the administrator's kubeconfig
    #[command(after_help = "Example:
  sudo trireme kubeconfig > ~/.kube/config")]
    Kubeconfig,
    /// Manage the container images of this machine
    #[command(after_help = "Examples:
  sudo trireme images ls
  sudo trireme images import app.tar
  sudo trireme images pull docker.io/library/nginx:1.29
  sudo trireme images rm docker.io/library/nginx:1.29")]
    #[command(subcommand)]
    Images(Images),
    /// Add simulated nodes to a cluster, to see how it does with many
    #[command(after_help = "Examples:
  sudo trireme simulate --nodes 500
  trireme simulate --kubeconfig admin.conf --nodes 5000 --zones eu/a,eu/b,eu/c --duration 10m -o json
  sudo trireme simulate --nodes 200 --fail-pods 1%/min --flap-nodes 0.5%/min
  sudo trireme simulate --nodes 90 --zones a,b,c --kill-zone b --after 2m

The nodes behave like real ones towards the API; there are no machines behind them. Ctrl-C ends them, prints a report and
removes them. Annotations of a pod say what becomes of it: simulate.trireme.dev/start-time, run-time, exit-code, fail-after.")]
    Simulate(Box<Simulate>),
    /// Print the configuration that file, environment and flags add up to
    #[command(after_help = "Examples:
  trireme config
  trireme config --config ./trireme.yaml --output json")]
    Config(Box<ConfigCommand>),
    /// Tell what is wrong with the configuration, without a start
    #[command(after_help = "Examples:
  trireme check-config
  trireme check-config --config ./trireme.yaml && sudo trireme server --config ./trireme.yaml")]
    CheckConfig(Box<Server>),
    /// Print a completion script for a shell
    #[command(after_help = "Example:
  trireme completion bash > /etc/bash_completion.d/trireme")]
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    #[command(after_help = "Example:
  trireme version -o json")]
    Version {
        /// Output format
        #[arg(long, short = 'o', value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Text,
    Json,
    Yaml,
}

#[derive(Args, Clone, Debug)]
pub struct Up {
    #[command(flatten)]
    pub server: Server,
    /// Also run a small web application, whose image is made from this very binary
    #[arg(long, env = "TRIREME_DEMO")]
    pub demo: bool,
}

/// The control plane.
#[derive(Args, Clone, Debug)]
pub struct Server {
    #[command(flatten)]
    pub node: Node,
    #[command(flatten)]
    pub security: Security,
    #[command(flatten)]
    pub election: LeaderElection,
    #[command(flatten)]
    pub autoscaling: Autoscaling,
    /// Address that the API server listens on
    #[arg(long, env = "TRIREME_BIND_ADDRESS", value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind_address: IpAddr,
    /// Port that the API server listens on
    #[arg(long, env = "TRIREME_HTTPS_LISTEN_PORT", value_name = "PORT", default_value_t = 6443)]
    pub https_listen_port: u16,
    /// Address under which others reach the API server [default: the node's address]
    #[arg(long, env = "TRIREME_ADVERTISE_ADDRESS", value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// More names or addresses for the API server's certificate
    #[arg(long, env = "TRIREME_TLS_SAN", value_name = "NAME", value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// Addresses of pods
    #[arg(long, env = "TRIREME_CLUSTER_CIDR", value_name = "CIDR", default_value = "10.42.0.0/16")]
    pub cluster_cidr: Cidr,
    /// Addresses of services
    #[arg(long, env = "TRIREME_SERVICE_CIDR", value_name = "CIDR", default_value = "10.43.0.0/16")]
    pub service_cidr: Cidr,
    /// Ports of services of type NodePort
    #[arg(long, env = "TRIREME_SERVICE_NODE_PORT_RANGE", value_name = "A-B", default_value = "30000-32767")]
    pub service_node_port_range: PortRange,
    /// Address of the cluster's DNS service [default: the tenth of the service CIDR]
    #[arg(long, env = "TRIREME_CLUSTER_DNS", value_name = "IP")]
    pub cluster_dns: Option<IpAddr>,
    /// Domain of the cluster
    #[arg(long, env = "TRIREME_CLUSTER_DOMAIN", value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Also write the administrator's kubeconfig to this file
    #[arg(long, short = 'o', env = "TRIREME_WRITE_KUBECONFIG", value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
    /// How long the certificates live that this server makes for itself, in seconds; they are renewed in time
    #[arg(long, env = "TRIREME_CERTIFICATE_LIFE", value_name = "SECONDS", default_value_t = 31_536_000, hide = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(5..=315_360_000))]
    pub certificate_life: u64,
    /// What not to run: a controller's name, scheduler, dns, proxy, node
    #[arg(long, env = "TRIREME_DISABLE", value_name = "NAME", value_delimiter = ',')]
    pub disable: Vec<String>,
    /// How pods are placed: a file with a KubeSchedulerConfiguration.
    #[arg(long, env = "TRIREME_KUBE_SCHEDULER_CONFIG", value_name = "FILE")]
    pub kube_scheduler_config: Option<PathBuf>,
}

/// Who runs controllers and scheduler.
#[derive(Args, Clone, Debug)]
pub struct LeaderElection {
    /// Run controllers and scheduler only while a lease says that this server leads: for several servers of one cluster
    #[arg(long, env = "TRIREME_LEADER_ELECT")]
    pub leader_elect: bool,
    /// How long a lease holds without renewal
    #[arg(long, env = "TRIREME_LEADER_ELECT_LEASE_DURATION", value_name = "DURATION", default_value = "15s")]
    #[arg(value_parser = duration::parse)]
    pub leader_elect_lease_duration: Duration,
    /// A leader that could not renew its lease for this long ends its work
    #[arg(long, env = "TRIREME_LEADER_ELECT_RENEW_DEADLINE", value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = duration::parse)]
    pub leader_elect_renew_deadline: Duration,
    /// How often a lease is renewed, or asked for
    #[arg(long, env = "TRIREME_LEADER_ELECT_RETRY_PERIOD", value_name = "DURATION", default_value = "2s")]
    #[arg(value_parser = duration::parse)]
    pub leader_elect_retry_period: Duration,
    /// Namespace of the leases kube-controller-manager and kube-scheduler
    #[arg(long, env = "TRIREME_LEADER_ELECT_RESOURCE_NAMESPACE", value_name = "NAME", default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
}

/// How horizontal pod autoscalers behave.
#[derive(Args, Clone, Debug)]
pub struct Autoscaling {
    /// How often the number of pods is looked at
    #[arg(long, env = "TRIREME_HORIZONTAL_POD_AUTOSCALER_SYNC_PERIOD", value_name = "DURATION", default_value = "15s")]
    #[arg(value_parser = duration::parse)]
    pub horizontal_pod_autoscaler_sync_period: Duration,
    /// For so long no pods are taken away that were recommended meanwhile
    #[arg(long, env = "TRIREME_HORIZONTAL_POD_AUTOSCALER_DOWNSCALE_STABILIZATION", value_name = "DURATION")]
    #[arg(value_parser = duration::parse, default_value = "5m")]
    pub horizontal_pod_autoscaler_downscale_stabilization: Duration,
    /// By how much usage may differ from its target before anything is done, as a part of one
    #[arg(long, env = "TRIREME_HORIZONTAL_POD_AUTOSCALER_TOLERANCE", value_name = "PART", default_value_t = 0.1)]
    pub horizontal_pod_autoscaler_tolerance: f64,
    /// For so long after a pod's start its use of CPU may come of the start
    #[arg(long, env = "TRIREME_HORIZONTAL_POD_AUTOSCALER_CPU_INITIALIZATION_PERIOD", value_name = "DURATION")]
    #[arg(value_parser = duration::parse, default_value = "5m")]
    pub horizontal_pod_autoscaler_cpu_initialization_period: Duration,
    /// A pod that became unready within this time from its start counts as never ready
    #[arg(long, env = "TRIREME_HORIZONTAL_POD_AUTOSCALER_INITIAL_READINESS_DELAY", value_name = "DURATION")]
    #[arg(value_parser = duration::parse, default_value = "30s")]
    pub horizontal_pod_autoscaler_initial_readiness_delay: Duration,
}

impl From<&Autoscaling> for trireme_controllers::Autoscaling {
    fn from(args: &Autoscaling) -> Self {
        Self {
            sync_period: args.horizontal_pod_autoscaler_sync_period,
            downscale_stabilization: args.horizontal_pod_autoscaler_downscale_stabilization,
            tolerance: args.horizontal_pod_autoscaler_tolerance,
            cpu_initialization: args.horizontal_pod_autoscaler_cpu_initialization_period,
            initial_readiness: args.horizontal_pod_autoscaler_initial_readiness_delay,
        }
    }
}

/// The node of this machine.
#[derive(Args, Clone, Debug)]
pub struct Node {
    /// Name of the node [default: the machine's host name]
    #[arg(long, env = "TRIREME_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address of the node [default: that of the interface with the default route]
    #[arg(long, env = "TRIREME_NODE_IP", value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// Labels to register the node with
    #[arg(long, env = "TRIREME_NODE_LABEL", value_name = "KEY=VALUE", value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// Taints to register the node with
    #[arg(long, env = "TRIREME_NODE_TAINT", value_name = "KEY=VALUE:EFFECT", value_delimiter = ',')]
    pub node_taint: Vec<String>,
    /// Port of the node's own API; 0 takes a free one
    #[arg(long, env = "TRIREME_KUBELET_PORT", value_name = "PORT", default_value_t = 10250)]
    pub kubelet_port: u16,
    /// CRI socket of a container runtime to use instead of Trireme's own
    #[arg(long, env = "TRIREME_CONTAINER_RUNTIME_ENDPOINT", value_name = "SOCKET")]
    pub container_runtime_endpoint: Option<String>,
    /// Where that runtime reads CNI configurations: one is written for it [default: it has its own]
    #[arg(long, env = "TRIREME_CNI_CONF_DIR", value_name = "DIR", requires = "container_runtime_endpoint")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Mirrors and credentials of image registries
    #[arg(long, env = "TRIREME_PRIVATE_REGISTRY", value_name = "FILE", default_value = "/etc/trireme/registries.yaml")]
    pub private_registry: PathBuf,
    /// The host's resolver configuration, for names outside the cluster
    #[arg(long, env = "TRIREME_RESOLV_CONF", value_name = "FILE", default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// What is to be left of the node's resources: pods are evicted below it
    #[arg(long, env = "TRIREME_EVICTION_HARD", value_name = "SIGNAL<AMOUNT", default_value_t = Thresholds::default())]
    pub eviction_hard: Thresholds,
    /// The most pods on the node
    #[arg(long, env = "TRIREME_MAX_PODS", value_name = "N", default_value_t = 110)]
    pub max_pods: u32,
}

/// A node of a cluster that runs elsewhere.
#[derive(Args, Clone, Debug)]
pub struct Agent {
    #[command(flatten)]
    pub node: Node,
    /// URL of the cluster's API server
    #[arg(long, short = 's', env = "TRIREME_URL", value_name = "URL")]
    pub server: String,
    /// Token to join with (DIR/node-token on the server)
    #[arg(long, short = 't', env = "TRIREME_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: String,
}

#[derive(Args, Clone, Debug)]
pub struct Uninstall {
    /// Do it without asking
    #[arg(long, short = 'y')]
    pub yes: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ConfigCommand {
    #[command(flatten)]
    pub server: Server,
    /// Output format
    #[arg(long, value_enum, default_value_t = Output::Yaml)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Images {
    /// List images
    #[command(after_help = "Examples:
  sudo trireme images ls
  sudo trireme images ls -o json")]
    Ls {
        /// Output format
        #[arg(long, short = 'o', value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Import images from an archive (`docker save` or OCI layout; `-` reads standard input)
    #[command(after_help = "Examples:
  sudo trireme images import app.tar
  docker save app:1 | sudo trireme images import -")]
    Import {
        /// The archives
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Output format
        #[arg(long, short = 'o', value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Pull images from their registry
    #[command(after_help = "Example:
  sudo trireme images pull docker.io/library/nginx:1.29")]
    Pull {
        /// The images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Mirrors and credentials of image registries; a Trireme that runs has its own
        #[arg(
            long,
            env = "TRIREME_PRIVATE_REGISTRY",
            value_name = "FILE",
            default_value = "/etc/trireme/registries.yaml"
        )]
        private_registry: PathBuf,
        /// Output format
        #[arg(long, short = 'o', value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Remove images, each with all its names
    #[command(after_help = "Example:
  sudo trireme images rm docker.io/library/nginx:1.29")]
    Rm {
        /// The images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        fn check(command: &clap::Command, parent: &str) {
            let name = format!("{parent} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{name}");
            command.get_subcommands().for_each(|command| check(command, &name));
        }
        check(&Cli::command(), "");
    }

    #[test]
    fn up_needs_no_flags_and_takes_those_of_small_distributions() {
        let cli = Cli::try_parse_from(["trireme", "up"]).unwrap();
        let Command::Up(up) = cli.command else { panic!() };
        assert_eq!(up.server.https_listen_port, 6443);
        assert_eq!(up.server.service_cidr.to_string(), "10.43.0.0/16");
        let cli = Cli::try_parse_from(["trireme", "agent", "--server", "https://a:6443", "--token", "t", "-d", "/x"]);
        assert_eq!(cli.unwrap().common.data_dir, PathBuf::from("/x"));
    }
}
