//! The expressions that rules are made of, and how each is written to netlink.

use std::time::Duration;

use crate::netlink::Message;

/// A register of four bytes: 0 to 15. Longer values take the following ones too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reg(pub(crate) u8);

/// Comparison with a constant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cmp {
    Equal,
    Differs,
}

/// How a packet is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reject {
    /// ICMP or ICMPv6 "port unreachable".
    PortUnreachable,
    /// A TCP segment with RST.
    TcpReset,
}

/// Where a packet goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// One expression of a rule.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// NFPROTO_IPV4 or NFPROTO_IPV6 of the packet.
    Family(Reg),
    /// Transport protocol.
    L4Protocol(Reg),
    /// Index of the link that the packet came in by.
    InLink(Reg),
    /// Bytes of the network header.
    Network { to: Reg, offset: u32, length: u32 },
    /// Bytes of the transport header.
    Transport { to: Reg, offset: u32, length: u32 },
    /// Compares a register with a constant.
    Compare(Reg, Cmp, Vec<u8>),
    /// `to = from & mask`, over `mask`'s length.
    Mask { from: Reg, to: Reg, mask: Vec<u8> },
    /// The rule goes on when the key is in the set (or is not, when `inverted`).
    InSet { set: String, key: Reg, inverted: bool },
    /// The rule goes on with the key's value when the key is in the map.
    Map { map: String, key: Reg, to: Reg },
    /// The key's verdict decides when the key is in the map.
    VerdictMap { map: String, key: Reg },
    /// Ends the rule.
    Verdict(Verdict),
    /// RTN_* kind of the packet's destination (or source) address.
    AddressKind { to: Reg, of_source: bool },
    /// A random number below the modulus.
    Random { to: Reg, modulus: u32 },
    /// State bits of the connection.
    ConnectionState(Reg),
    /// Status bits of the connection.
    ConnectionStatus(Reg),
    /// Source address of the connection's first packet.
    OriginalSource { to: Reg, ipv6: bool },
    /// Destination address of the connection's first packet, before translation.
    OriginalDestination { to: Reg, ipv6: bool },
    /// Destination port of the connection's first packet, before translation.
    OriginalDestinationPort(Reg),
    /// Sets the destination address and port from two registers.
    Dnat { ipv6: bool, address: Reg, port: Reg },
    /// Sets the source address to one of the outgoing link's.
    Masquerade,
    /// Refuses the packet.
    Reject(Reject),
    /// Adds the key with its value to a map, or refreshes its timeout.
    Remember { map: String, key: Reg, value: Reg, timeout: Duration },
}

// RTN_LOCAL, IP_CT_NEW and IPS_DST_NAT as the expressions above put them into registers.
const NFT_REG32_00: u32 = 8;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

// === impl Verdict ===

impl Verdict {
    pub(super) fn write(&self, message: &mut Message) {
        let (code, chain) = match self {
            Self::Drop => (0i32, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        };
        message.nest(NFTA_DATA_VERDICT, |m| {
            m.put_be32(NFTA_VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                m.put_str(NFTA_VERDICT_CHAIN, chain);
            }
        });
    }
}

// === impl Expr ===

fn register(reg: Reg) -> u32 {
    NFT_REG32_00 + u32::from(reg.0)
}

impl Expr {
    fn name(&self) -> &'static str {
        match self {
            Self::Family(_) | Self::L4Protocol(_) | Self::InLink(_) => "meta",
            Self::Network { .. } | Self::Transport { .. } => "payload",
            Self::Compare(..) => "cmp",
            Self::Mask { .. } => "bitwise",
            Self::Verdict(_) => "immediate",
            Self::InSet { .. } | Self::Map { .. } | Self::VerdictMap { .. } => "lookup",
            Self::AddressKind { .. } => "fib",
            Self::Random { .. } => "numgen",
            Self::ConnectionState(_)
            | Self::ConnectionStatus(_)
            | Self::OriginalSource { .. }
            | Self::OriginalDestination { .. }
            | Self::OriginalDestinationPort(_) => "ct",
            Self::Dnat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject(_) => "reject",
            Self::Remember { .. } => "dynset",
        }
    }

    /// Writes the expression as one element of a rule's list.
    pub(super) fn write(&self, message: &mut Message) {
        message.nest(NFTA_LIST_ELEM, |m| {
            m.put_str(NFTA_EXPR_NAME, self.name()).nest(NFTA_EXPR_DATA, |m| self.write_data(m));
        });
    }

    fn write_data(&self, m: &mut Message) {
        // NFTA_META_DREG 1, KEY 2
        let meta = |m: &mut Message, reg: &Reg, key| {
            m.put_be32(1, register(*reg)).put_be32(2, key);
        };
        // NFTA_PAYLOAD_DREG 1, BASE 2, OFFSET 3, LEN 4
        let payload = |m: &mut Message, reg: &Reg, base, offset, length| {
            m.put_be32(1, register(*reg)).put_be32(2, base).put_be32(3, offset).put_be32(4, length);
        };
        // NFTA_CT_DREG 1, KEY 2, DIRECTION 3
        let ct = |m: &mut Message, reg: &Reg, key, original| {
            m.put_be32(1, register(*reg)).put_be32(2, key);
            if original {
                m.put(3, &[0]);
            }
        };
        match self {
            Self::Family(reg) => meta(m, reg, 15),
            Self::L4Protocol(reg) => meta(m, reg, 16),
            Self::InLink(reg) => meta(m, reg, 4),
            Self::Network { to, offset, length } => payload(m, to, 1, *offset, *length),
            Self::Transport { to, offset, length } => payload(m, to, 2, *offset, *length),
            Self::Compare(reg, cmp, value) => {
                // NFTA_CMP_SREG 1, OP 2, DATA 3
                let op = match cmp {
                    Cmp::Equal => 0,
                    Cmp::Differs => 1,
                };
                m.put_be32(1, register(*reg)).put_be32(2, op).nest(3, |m| {
                    m.put(NFTA_DATA_VALUE, value);
                });
            }
            Self::Mask { from, to, mask } => {
                // NFTA_BITWISE_SREG 1, DREG 2, LEN 3, MASK 4, XOR 5
                m.put_be32(1, register(*from)).put_be32(2, register(*to)).put_be32(3, mask.len() as u32);
                m.nest(4, |m| {
                    m.put(NFTA_DATA_VALUE, mask);
                });
                m.nest(5, |m| {
                    m.put(NFTA_DATA_VALUE, &vec![0; mask.len()]);
                });
            }
            Self::Verdict(verdict) => {
                // NFTA_IMMEDIATE_DREG 1, DATA 2
                m.put_be32(1, 0).nest(2, |m| verdict.write(m));
            }
            Self::InSet { set, key, inverted } => {
                // NFTA_LOOKUP_SET 1, SREG 2, DREG 3, FLAGS 5
                m.put_str(1, set).put_be32(2, register(*key));
                if *inverted {
                    m.put_be32(5, 1);
                }
            }
            Self::Map { map, key, to } => {
                m.put_str(1, map).put_be32(2, register(*key)).put_be32(3, register(*to));
            }
            Self::VerdictMap { map, key } => {
                m.put_str(1, map).put_be32(2, register(*key)).put_be32(3, 0);
            }
            Self::AddressKind { to, of_source } => {
                // NFTA_FIB_DREG 1, RESULT 2 (address type 3), FLAGS 3 (source 1, destination 2)
                m.put_be32(1, register(*to)).put_be32(2, 3).put_be32(3, if *of_source { 1 } else { 2 });
            }
            Self::Random { to, modulus } => {
                // NFTA_NG_DREG 1, MODULUS 2, TYPE 3 (random 1), OFFSET 4
                m.put_be32(1, register(*to)).put_be32(2, *modulus).put_be32(3, 1).put_be32(4, 0);
            }
            Self::ConnectionState(reg) => ct(m, reg, 0, false),
            Self::ConnectionStatus(reg) => ct(m, reg, 2, false),
            Self::OriginalSource { to, ipv6 } => ct(m, to, if *ipv6 { 21 } else { 19 }, true),
            Self::OriginalDestination { to, ipv6 } => ct(m, to, if *ipv6 { 22 } else { 20 }, true),
            Self::OriginalDestinationPort(reg) => ct(m, reg, 12, true),
            Self::Dnat { ipv6, address, port } => {
                // NFTA_NAT_TYPE 1 (destination 1), FAMILY 2, REG_ADDR_MIN 3, REG_PROTO_MIN 5
                m.put_be32(1, 1).put_be32(2, if *ipv6 { 10 } else { 2 });
                m.put_be32(3, register(*address)).put_be32(5, register(*port));
            }
            Self::Masquerade => {}
            Self::Reject(reject) => {
                // NFTA_REJECT_TYPE 1 (TCP reset 1, ICMP of either family 2), ICMP_CODE 2 (port unreachable 1)
                match reject {
                    Reject::TcpReset => m.put_be32(1, 1),
                    Reject::PortUnreachable => m.put_be32(1, 2).put(2, &[1]),
                };
            }
            Self::Remember { map, key, value, timeout } => {
                // NFTA_DYNSET_SET_NAME 1, OP 3 (update 1), SREG_KEY 4, SREG_DATA 5, TIMEOUT 6
                let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                m.put_str(1, map).put_be32(3, 1).put_be32(4, register(*key)).put_be32(5, register(*value));
                m.put(6, &milliseconds.to_be_bytes());
            }
        }
    }
}
