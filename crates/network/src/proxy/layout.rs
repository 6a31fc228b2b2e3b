//! The proxy's table: its sets, its chains, and the rules that never change.
//!
//! Two lookups find an endpoint: the destination of a packet is a *frontend*, which leads to a chain for the number of
//! its endpoints; frontend and a random number below that stand for an endpoint. Services, ports and endpoints are
//! elements only; the one thing that depends on the state is which spreading chains exist, since the kernel wants the
//! bound of a random number in the rule. All rules are such that `nft list ruleset` can print them: libnftables
//! aborts the calling program on keys that are made of other lookups' results.

use std::time::Duration;

use ipnet::IpNet;

use crate::nft::{Batch, Cmp, Expr, Field, Hook, Key, Reg, Reject, SetKind, SetSpec, Verdict};

/// How many clients are remembered for session affinity per family.
const AFFINITY_CLIENTS: u32 = 1 << 18;

/// Conntrack state bit of a connection's first packet.
const STATE_NEW: u32 = 1 << 3;
/// Conntrack status bit of a translated destination (IPS_DST_NAT).
const STATUS_DNAT: u32 = 1 << 5;
/// RTN_LOCAL.
const LOCAL: u32 = 2;
/// Index of the loopback link in every namespace.
const LOOPBACK: u32 = 1;

/// Before `dstnat`, so that what is refused is never translated.
const PRIORITY_ADMISSION: i32 = -110;
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_SRCNAT: i32 = 100;

/// How a packet names its service: by address and port, or by node port; and whether it comes from within the cluster,
/// which matters to services whose external policy is Local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Via {
    Address,
    NodePort,
    InternalAddress,
    InternalNodePort,
}

/// A chain that exists because the services are as they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StateChain {
    /// Spreads connections over this many endpoints; clients that are remembered come first when it is sticky.
    Spread { ipv6: bool, via: Via, size: u32, sticky: bool },
    /// Remembers for this long which endpoint a client got.
    Remember { ipv6: bool, node_port: bool, timeout: Duration },
}

/// The sets and maps, each once per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    /// Frontend to the chain for its number of endpoints.
    Frontends(Via),
    /// Frontend and number to endpoint.
    Endpoints(Via),
    /// Frontends that refuse everybody, by address or node port.
    Rejects { node_port: bool },
    /// Frontends that drop what comes from outside of the cluster.
    ExternalDrops { node_port: bool },
    /// Frontends with source ranges.
    Restricted,
    /// Frontend and who may use it.
    Allowed,
    /// Frontends and how their connections are masqueraded.
    Masquerades { node_port: bool },
    /// Frontends with session affinity, and the chain that remembers their clients.
    Stickies { node_port: bool },
    /// Local endpoints, twice: a pod that reaches itself through a service.
    Hairpins,
}

/// All tables, in the order in which they are made.
pub(super) const TABLES: [Table; 19] = [
    Table::Frontends(Via::Address),
    Table::Frontends(Via::NodePort),
    Table::Frontends(Via::InternalAddress),
    Table::Frontends(Via::InternalNodePort),
    Table::Endpoints(Via::Address),
    Table::Endpoints(Via::NodePort),
    Table::Endpoints(Via::InternalAddress),
    Table::Endpoints(Via::InternalNodePort),
    Table::Rejects { node_port: false },
    Table::Rejects { node_port: true },
    Table::ExternalDrops { node_port: false },
    Table::ExternalDrops { node_port: true },
    Table::Restricted,
    Table::Allowed,
    Table::Masquerades { node_port: false },
    Table::Masquerades { node_port: true },
    Table::Stickies { node_port: false },
    Table::Stickies { node_port: true },
    Table::Hairpins,
];

pub(super) const REJECT: &str = "reject";
pub(super) const MASQUERADE: &str = "masquerade";
pub(super) const MASQUERADE_OFF_CLUSTER: &str = "masquerade-off-cluster";
pub(super) const MASQUERADE_LOCAL: &str = "masquerade-local";

// === impl Via ===

impl Via {
    pub(super) fn is_node_port(self) -> bool {
        matches!(self, Self::NodePort | Self::InternalNodePort)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::NodePort => "node-port",
            Self::InternalAddress => "internal-address",
            Self::InternalNodePort => "internal-node-port",
        }
    }
}

// === impl Table ===

fn digit(ipv6: bool) -> char {
    if ipv6 { '6' } else { '4' }
}

impl Table {
    pub(super) fn name(self, ipv6: bool) -> String {
        let by = |node_port| if node_port { "node-port" } else { "address" };
        let digit = digit(ipv6);
        match self {
            Self::Frontends(via) => format!("frontends-{}-{digit}", via.word()),
            Self::Endpoints(via) => format!("endpoints-{}-{digit}", via.word()),
            Self::Rejects { node_port } => format!("rejects-{}-{digit}", by(node_port)),
            Self::ExternalDrops { node_port } => format!("external-drops-{}-{digit}", by(node_port)),
            Self::Restricted => format!("restricted-{digit}"),
            Self::Allowed => format!("allowed-{digit}"),
            Self::Masquerades { node_port } => format!("masquerades-{}-{digit}", by(node_port)),
            Self::Stickies { node_port } => format!("stickies-{}-{digit}", by(node_port)),
            Self::Hairpins => format!("hairpins-{digit}"),
        }
    }

    fn create(self, ipv6: bool, batch: &mut Batch) {
        let ip = Field::ip(ipv6);
        let by_address = [ip, Field::PROTOCOL, Field::PORT];
        let by_port = [Field::PROTOCOL, Field::PORT];
        let by = |node_port: bool| if node_port { by_port.to_vec() } else { by_address.to_vec() };
        let (fields, kind) = match self {
            Self::Frontends(via) => (by(via.is_node_port()), SetKind::Verdicts),
            Self::Endpoints(via) => {
                let mut fields = by(via.is_node_port());
                fields.push(Field::NUMBER);
                let (value_type, value_length) = Field::concatenation(&[ip, Field::PORT]);
                (fields, SetKind::Map { value_type, value_length })
            }
            Self::Rejects { node_port }
            | Self::ExternalDrops { node_port }
            | Self::Masquerades { node_port }
            | Self::Stickies { node_port } => (by(node_port), SetKind::Verdicts),
            Self::Restricted => (by_address.to_vec(), SetKind::Set),
            Self::Allowed => (vec![ip, Field::PROTOCOL, Field::PORT, ip], SetKind::Ranges),
            Self::Hairpins => (vec![ip, ip], SetKind::Set),
        };
        batch.add_set(&SetSpec { name: &self.name(ipv6), fields: &fields, kind });
    }
}

/// The map of remembered clients: client and frontend to endpoint.
pub(super) fn affinity_map(node_port: bool, ipv6: bool) -> String {
    format!("affinity-{}-{}", if node_port { "node-port" } else { "address" }, digit(ipv6))
}

// === registers ===
//
// The sixteen registers are laid out so that every key is a run of neighbours: client, address, protocol, port, number.
// A node port's key has no address, and its client sits in the address's place.

struct Registers {
    client: Reg,
    address: Reg,
    protocol: Reg,
    port: Reg,
    number: Reg,
    endpoint: Reg,
    endpoint_port: Reg,
}

fn registers(ipv6: bool) -> Registers {
    let [client, address, protocol, port, number, endpoint, endpoint_port] =
        if ipv6 { [0, 4, 8, 9, 10, 11, 15] } else { [0, 1, 2, 3, 4, 5, 6] }.map(Reg);
    Registers { client, address, protocol, port, number, endpoint, endpoint_port }
}

// === parts of rules ===

pub(crate) fn of_family(ipv6: bool) -> Vec<Expr> {
    let number = if ipv6 { 10 } else { 2 };
    vec![Expr::Family(Reg(0)), Expr::Compare(Reg(0), Cmp::Equal, vec![number])]
}

pub(crate) fn source(to: Reg, ipv6: bool) -> Expr {
    if ipv6 { Expr::Network { to, offset: 8, length: 16 } } else { Expr::Network { to, offset: 12, length: 4 } }
}

pub(crate) fn destination(to: Reg, ipv6: bool) -> Expr {
    if ipv6 { Expr::Network { to, offset: 24, length: 16 } } else { Expr::Network { to, offset: 16, length: 4 } }
}

/// Goes on when the address in the header is in the network.
pub(crate) fn within(net: &IpNet, load: fn(Reg, bool) -> Expr) -> Vec<Expr> {
    let ipv6 = net.addr().is_ipv6();
    let mut rule = of_family(ipv6);
    rule.push(load(Reg(0), ipv6));
    rule.push(Expr::Mask { from: Reg(0), to: Reg(0), mask: Key::new().ip(net.netmask()).0 });
    rule.push(Expr::Compare(Reg(0), Cmp::Equal, Key::new().ip(net.network()).0));
    rule
}

/// Goes on when the packet's destination (or source) is an address of this node.
pub(crate) fn is_local(of_source: bool) -> Vec<Expr> {
    vec![Expr::AddressKind { to: Reg(0), of_source }, Expr::Compare(Reg(0), Cmp::Equal, LOCAL.to_ne_bytes().to_vec())]
}

/// Goes on with a connection's first packet.
pub(crate) fn is_new() -> Vec<Expr> {
    vec![
        Expr::ConnectionState(Reg(0)),
        Expr::Mask { from: Reg(0), to: Reg(0), mask: STATE_NEW.to_ne_bytes().to_vec() },
        Expr::Compare(Reg(0), Cmp::Differs, vec![0; 4]),
    ]
}

/// Goes on when the connection's destination was translated.
pub(crate) fn is_translated() -> Vec<Expr> {
    vec![
        Expr::ConnectionStatus(Reg(0)),
        Expr::Mask { from: Reg(0), to: Reg(0), mask: STATUS_DNAT.to_ne_bytes().to_vec() },
        Expr::Compare(Reg(0), Cmp::Differs, vec![0; 4]),
    ]
}

/// A packet to 127.0.0.0/8 from another machine: `route_localnet` would let it in (CVE-2020-8558).
fn martian() -> Vec<Expr> {
    let mut rule = vec![Expr::InLink(Reg(0)), Expr::Compare(Reg(0), Cmp::Differs, LOOPBACK.to_ne_bytes().to_vec())];
    if let Ok(loopback) = "127.0.0.0/8".parse() {
        rule.extend(within(&loopback, destination));
    }
    rule.push(Expr::Verdict(Verdict::Drop));
    rule
}

/// Loads the key of a frontend; the register where it begins.
fn load_frontend(rule: &mut Vec<Expr>, node_port: bool, ipv6: bool) -> Reg {
    let r = registers(ipv6);
    rule.extend(of_family(ipv6));
    if node_port {
        rule.extend(is_local(false));
    } else {
        rule.push(destination(r.address, ipv6));
    }
    rule.push(Expr::L4Protocol(r.protocol));
    rule.push(Expr::Transport { to: r.port, offset: 2, length: 2 });
    if node_port { r.protocol } else { r.address }
}

fn frontend_verdicts(table: Table, node_port: bool, ipv6: bool) -> Vec<Expr> {
    let mut rule = Vec::new();
    let key = load_frontend(&mut rule, node_port, ipv6);
    rule.push(Expr::VerdictMap { map: table.name(ipv6), key });
    rule
}

// === impl StateChain ===

impl StateChain {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Spread { ipv6, via, size, sticky } => {
                let sticky = if *sticky { "-sticky" } else { "" };
                format!("spread-{size}-{}-{}{sticky}", via.word(), digit(*ipv6))
            }
            Self::Remember { ipv6, node_port, timeout } => {
                let by = if *node_port { "node-port" } else { "address" };
                format!("remember-{}-{by}-{}", timeout.as_secs(), digit(*ipv6))
            }
        }
    }

    pub(super) fn create(&self, batch: &mut Batch) {
        let name = self.name();
        batch.add_chain(&name);
        match self {
            Self::Spread { ipv6, via, size, sticky } => {
                if *sticky {
                    batch.add_rule(&name, &recall(*ipv6, *via));
                }
                batch.add_rule(&name, &spread(*ipv6, *via, *size));
            }
            Self::Remember { ipv6, node_port, timeout } => {
                batch.add_rule(&name, &remember(*ipv6, *node_port, *timeout));
            }
        }
    }
}

fn dnat(ipv6: bool) -> Expr {
    let r = registers(ipv6);
    Expr::Dnat { ipv6, address: r.endpoint, port: r.endpoint_port }
}

/// To an endpoint by chance.
fn spread(ipv6: bool, via: Via, size: u32) -> Vec<Expr> {
    let r = registers(ipv6);
    let mut rule = Vec::new();
    let key = load_frontend(&mut rule, via.is_node_port(), ipv6);
    rule.push(Expr::Random { to: r.number, modulus: size });
    rule.push(Expr::Map { map: Table::Endpoints(via).name(ipv6), key, to: r.endpoint });
    rule.push(dnat(ipv6));
    rule
}

/// To the endpoint that the client had before.
fn recall(ipv6: bool, via: Via) -> Vec<Expr> {
    let r = registers(ipv6);
    let node_port = via.is_node_port();
    let mut rule = Vec::new();
    load_frontend(&mut rule, node_port, ipv6);
    let key = if node_port { r.address } else { r.client };
    rule.push(source(key, ipv6));
    rule.push(Expr::Map { map: affinity_map(node_port, ipv6), key, to: r.endpoint });
    rule.push(dnat(ipv6));
    rule
}

/// Remembers, once the destination is translated, where this client's connections to the frontend go.
fn remember(ipv6: bool, node_port: bool, timeout: Duration) -> Vec<Expr> {
    let r = registers(ipv6);
    let mut rule = Vec::new();
    load_original(&mut rule, node_port, ipv6);
    let key = if node_port { r.address } else { r.client };
    rule.push(Expr::OriginalSource { to: key, ipv6 });
    rule.push(destination(r.endpoint, ipv6));
    rule.push(Expr::Transport { to: r.endpoint_port, offset: 2, length: 2 });
    rule.push(Expr::Remember { map: affinity_map(node_port, ipv6), key, value: r.endpoint, timeout });
    rule
}

/// Loads the key of the frontend that the connection's first packet was for; the register where it begins.
fn load_original(rule: &mut Vec<Expr>, node_port: bool, ipv6: bool) -> Reg {
    let r = registers(ipv6);
    rule.extend(of_family(ipv6));
    if !node_port {
        rule.push(Expr::OriginalDestination { to: r.address, ipv6 });
    }
    rule.push(Expr::L4Protocol(r.protocol));
    rule.push(Expr::OriginalDestinationPort(r.port));
    if node_port { r.protocol } else { r.address }
}

fn original_verdicts(table: Table, node_port: bool, ipv6: bool) -> Vec<Expr> {
    let mut rule = Vec::new();
    let key = load_original(&mut rule, node_port, ipv6);
    rule.push(Expr::VerdictMap { map: table.name(ipv6), key });
    rule
}

// === the table ===

fn returning(mut rule: Vec<Expr>, verdict: Verdict) -> Vec<Expr> {
    rule.push(Expr::Verdict(verdict));
    rule
}

/// Adds one chain of each kind, to see whether the kernel takes them.
pub(crate) fn create_samples(batch: &mut Batch) {
    for ipv6 in [false, true] {
        StateChain::Spread { ipv6, via: Via::Address, size: 2, sticky: true }.create(batch);
        StateChain::Remember { ipv6, node_port: false, timeout: Duration::from_secs(1) }.create(batch);
    }
}

/// Makes the whole table anew, without services.
pub(crate) fn create(batch: &mut Batch, cluster_cidrs: &[IpNet]) {
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    for ipv6 in [false, true] {
        for table in TABLES {
            table.create(ipv6, batch);
        }
        let ip = Field::ip(ipv6);
        let (value_type, value_length) = Field::concatenation(&[ip, Field::PORT]);
        let kind = SetKind::Dynamic { value_type, value_length, size: AFFINITY_CLIENTS };
        let by_address = [ip, ip, Field::PROTOCOL, Field::PORT];
        let by_port = [ip, Field::PROTOCOL, Field::PORT];
        for (node_port, fields) in [(false, &by_address[..]), (true, &by_port[..])] {
            batch.add_set(&SetSpec { name: &affinity_map(node_port, ipv6), fields, kind });
        }
    }
    for chain in [
        REJECT,
        MASQUERADE,
        MASQUERADE_OFF_CLUSTER,
        MASQUERADE_LOCAL,
        "masquerading",
        "remembering",
        "admission",
        "external-admission",
        "services",
        "internal-services",
    ] {
        batch.add_chain(chain);
    }
    admission(batch, cluster_cidrs);
    translation(batch, cluster_cidrs);
    masquerading(batch, cluster_cidrs);
}

fn admission(batch: &mut Batch, cluster_cidrs: &[IpNet]) {
    let tcp = vec![Expr::L4Protocol(Reg(0)), Expr::Compare(Reg(0), Cmp::Equal, vec![6])];
    batch.add_rule(REJECT, &[tcp, vec![Expr::Reject(Reject::TcpReset)]].concat());
    batch.add_rule(REJECT, &[Expr::Reject(Reject::PortUnreachable)]);
    for ipv6 in [false, true] {
        // The key with the client's address goes on where the frontend's ends: other registers than elsewhere.
        let (at, protocol, port, client) =
            if ipv6 { (Reg(0), Reg(4), Reg(5), Reg(6)) } else { (Reg(0), Reg(1), Reg(2), Reg(3)) };
        let mut restricted = of_family(ipv6);
        restricted.push(destination(at, ipv6));
        restricted.push(Expr::L4Protocol(protocol));
        restricted.push(Expr::Transport { to: port, offset: 2, length: 2 });
        restricted.push(Expr::InSet { set: Table::Restricted.name(ipv6), key: at, inverted: false });
        restricted.push(source(client, ipv6));
        restricted.push(Expr::InSet { set: Table::Allowed.name(ipv6), key: at, inverted: true });
        batch.add_rule("admission", &returning(restricted, Verdict::Drop));
        for node_port in [false, true] {
            batch.add_rule("admission", &frontend_verdicts(Table::Rejects { node_port }, node_port, ipv6));
            let drops = frontend_verdicts(Table::ExternalDrops { node_port }, node_port, ipv6);
            batch.add_rule("external-admission", &drops);
        }
    }
    batch.add_base_chain("prerouting-admission", false, Hook::Prerouting, PRIORITY_ADMISSION);
    batch.add_rule("prerouting-admission", &martian());
    batch.add_rule("prerouting-admission", &returning(is_new(), Verdict::Jump("admission".into())));
    for net in cluster_cidrs {
        batch.add_rule("prerouting-admission", &returning(within(net, source), Verdict::Return));
    }
    batch.add_rule("prerouting-admission", &returning(is_new(), Verdict::Jump("external-admission".into())));
    batch.add_base_chain("output-admission", false, Hook::Output, PRIORITY_ADMISSION);
    batch.add_rule("output-admission", &returning(is_new(), Verdict::Jump("admission".into())));
}

fn translation(batch: &mut Batch, cluster_cidrs: &[IpNet]) {
    for ipv6 in [false, true] {
        for via in [Via::InternalAddress, Via::InternalNodePort] {
            let rule = frontend_verdicts(Table::Frontends(via), via.is_node_port(), ipv6);
            batch.add_rule("internal-services", &rule);
        }
        for via in [Via::Address, Via::NodePort] {
            let rule = frontend_verdicts(Table::Frontends(via), via.is_node_port(), ipv6);
            batch.add_rule("services", &rule);
        }
    }
    batch.add_base_chain("prerouting-services", true, Hook::Prerouting, PRIORITY_DSTNAT);
    for net in cluster_cidrs {
        let rule = returning(within(net, source), Verdict::Jump("internal-services".into()));
        batch.add_rule("prerouting-services", &rule);
    }
    batch.add_rule("prerouting-services", &[Expr::Verdict(Verdict::Jump("services".into()))]);
    batch.add_base_chain("output-services", true, Hook::Output, PRIORITY_DSTNAT);
    batch.add_rule("output-services", &[Expr::Verdict(Verdict::Jump("internal-services".into()))]);
    batch.add_rule("output-services", &[Expr::Verdict(Verdict::Jump("services".into()))]);
}

/// Without packet marks: what the client first sent to, which the connection remembers, says how to masquerade.
fn masquerading(batch: &mut Batch, cluster_cidrs: &[IpNet]) {
    batch.add_rule(MASQUERADE, &[Expr::Masquerade]);
    for net in cluster_cidrs {
        batch.add_rule(MASQUERADE_OFF_CLUSTER, &returning(within(net, source), Verdict::Return));
        batch.add_rule(MASQUERADE_LOCAL, &returning(within(net, source), Verdict::Return));
    }
    batch.add_rule(MASQUERADE_OFF_CLUSTER, &[Expr::Masquerade]);
    batch.add_rule(MASQUERADE_LOCAL, &[is_local(true), vec![Expr::Masquerade]].concat());
    for ipv6 in [false, true] {
        for node_port in [false, true] {
            let rule = original_verdicts(Table::Masquerades { node_port }, node_port, ipv6);
            batch.add_rule("masquerading", &rule);
            let rule = original_verdicts(Table::Stickies { node_port }, node_port, ipv6);
            batch.add_rule("remembering", &rule);
        }
    }
    let remembering = returning(is_translated(), Verdict::Jump("remembering".into()));
    // Endpoints of this node itself, pods in its own network, are not routed on.
    batch.add_base_chain("input-services", true, Hook::Input, PRIORITY_SRCNAT);
    batch.add_rule("input-services", &remembering);
    batch.add_base_chain("postrouting-services", true, Hook::Postrouting, PRIORITY_SRCNAT);
    batch.add_rule("postrouting-services", &remembering);
    for ipv6 in [false, true] {
        let mut rule = is_translated();
        rule.extend(of_family(ipv6));
        rule.push(source(Reg(0), ipv6));
        rule.push(destination(Reg(if ipv6 { 4 } else { 1 }), ipv6));
        rule.push(Expr::InSet { set: Table::Hairpins.name(ipv6), key: Reg(0), inverted: false });
        rule.push(Expr::Masquerade);
        batch.add_rule("postrouting-services", &rule);
    }
    let rule = returning(is_translated(), Verdict::Jump("masquerading".into()));
    batch.add_rule("postrouting-services", &rule);
}
