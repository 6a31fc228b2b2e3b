//! Batches of changes that the kernel commits together or not at all.

use super::expression::NFTA_DATA_VALUE;
use super::{Data, Element, Expr, Key};
use crate::netlink::{Attributes, Message};
use crate::netlink::{NetlinkError, NetlinkProtocol, Socket};

const SUBSYSTEM: u16 = 10;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NFPROTO_INET: u8 = 1;
const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_MAP: u32 = 0x8;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
const NFT_SET_CONCAT: u32 = 0x80;
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;

/// An attribute's length is sixteen bits: elements go in several messages.
const ELEMENT_BYTES: usize = 32 * 1024;

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// What a set holds beside its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetKind {
    /// Keys only.
    Set,
    /// Keys only, each field a range.
    Ranges,
    /// Values of these fields (lengths in bytes) with nft's type of them.
    Map { value_type: u32, value_length: u32 },
    /// Values that rules add, and that expire; at most `size`.
    Dynamic { value_type: u32, value_length: u32, size: u32 },
    /// Verdicts.
    Verdicts,
}

/// A set or map to be made: the types (nft's numbers) and lengths of its key's fields.
#[derive(Clone, Debug)]
pub(crate) struct SetSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) fields: &'a [Field],
    pub(crate) kind: SetKind,
}

/// A field of a key: nft's type number (so that `nft list` can print it) and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    kind: u32,
    length: u32,
}

// === impl Field ===

impl Field {
    pub(crate) const IPV4: Self = Self { kind: 7, length: 4 };
    pub(crate) const IPV6: Self = Self { kind: 8, length: 16 };
    pub(crate) const PROTOCOL: Self = Self { kind: 12, length: 1 };
    pub(crate) const PORT: Self = Self { kind: 13, length: 2 };
    pub(crate) const NUMBER: Self = Self { kind: 19, length: 4 };

    /// An address of the family.
    pub(crate) const fn ip(ipv6: bool) -> Self {
        if ipv6 { Self::IPV6 } else { Self::IPV4 }
    }

    /// nft's type number of fields after each other, and their length with padding.
    pub(crate) fn concatenation(fields: &[Self]) -> (u32, u32) {
        let kind = fields.iter().fold(0, |kind, field| kind << 6 | field.kind);
        match fields {
            [one] => (one.kind, one.length),
            _ => (kind, fields.iter().map(|field| field.length.next_multiple_of(4)).sum()),
        }
    }
}

/// Changes of one table of the inet family.
pub(crate) struct Batch {
    table: String,
    messages: Vec<Message>,
}

// === impl Batch ===

impl Batch {
    /// An empty batch of changes to `table`.
    pub(crate) fn new(table: &str) -> Self {
        Self { table: table.to_owned(), messages: Vec::new() }
    }

    /// Whether nothing would change.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn message(&self, command: u16, flags: u16) -> Message {
        let mut message = Message::new(SUBSYSTEM << 8 | command, flags, &[NFPROTO_INET, 0, 0, 0]);
        // Every kind of message has the table's name as its first attribute.
        message.put_str(1, &self.table);
        message
    }

    /// Makes the table; one that is there stays.
    pub(crate) fn add_table(&mut self) {
        self.messages.push(self.message(NEWTABLE, NLM_F_CREATE));
    }

    /// Removes the table with all in it.
    pub(crate) fn delete_table(&mut self) {
        self.messages.push(self.message(DELTABLE, 0));
    }

    /// Makes a chain that only other chains enter.
    pub(crate) fn add_chain(&mut self, name: &str) {
        let mut message = self.message(NEWCHAIN, NLM_F_CREATE);
        message.put_str(3, name);
        self.messages.push(message);
    }

    /// Makes a chain that packets enter by themselves.
    pub(crate) fn add_base_chain(&mut self, name: &str, nat: bool, hook: Hook, priority: i32) {
        let number = match hook {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        };
        let mut message = self.message(NEWCHAIN, NLM_F_CREATE);
        message.put_str(3, name).nest(4, |m| {
            m.put_be32(1, number).put_be32(2, priority as u32);
        });
        message.put_str(7, if nat { "nat" } else { "filter" });
        self.messages.push(message);
    }

    /// Removes a chain and its rules.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        let mut message = self.message(DELCHAIN, 0);
        message.put_str(3, name);
        self.messages.push(message);
    }

    /// Appends a rule to a chain.
    pub(crate) fn add_rule(&mut self, chain: &str, expressions: &[Expr]) {
        let mut message = self.message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
        message.put_str(2, chain).nest(4, |m| {
            for expression in expressions {
                expression.write(m);
            }
        });
        self.messages.push(message);
    }

    /// Makes a set or map.
    pub(crate) fn add_set(&mut self, spec: &SetSpec<'_>) {
        let (kind, length) = Field::concatenation(spec.fields);
        let concatenated = if spec.fields.len() > 1 { NFT_SET_CONCAT } else { 0 };
        let flags = concatenated
            | match spec.kind {
                SetKind::Set => 0,
                SetKind::Ranges => NFT_SET_INTERVAL,
                SetKind::Map { .. } | SetKind::Verdicts => NFT_SET_MAP,
                SetKind::Dynamic { .. } => NFT_SET_MAP | NFT_SET_EVAL | NFT_SET_TIMEOUT,
            };
        let mut message = self.message(NEWSET, NLM_F_CREATE);
        // NFTA_SET_NAME 2, FLAGS 3, KEY_TYPE 4, KEY_LEN 5, DATA_TYPE 6, DATA_LEN 7, DESC 9, ID 10
        message.put_str(2, spec.name).put_be32(3, flags).put_be32(4, kind).put_be32(5, length);
        match spec.kind {
            SetKind::Set | SetKind::Ranges => {}
            SetKind::Map { value_type, value_length } | SetKind::Dynamic { value_type, value_length, .. } => {
                message.put_be32(6, value_type).put_be32(7, value_length);
            }
            SetKind::Verdicts => {
                message.put_be32(6, NFT_DATA_VERDICT).put_be32(7, 0);
            }
        }
        message.nest(9, |m| {
            if let SetKind::Dynamic { size, .. } = spec.kind {
                m.put_be32(1, size);
            }
            if spec.fields.len() > 1 {
                m.nest(2, |m| {
                    for field in spec.fields {
                        m.nest(NFTA_LIST_ELEM, |m| {
                            m.put_be32(1, field.length);
                        });
                    }
                });
            }
        });
        message.put_be32(10, self.messages.len() as u32 + 1);
        self.messages.push(message);
    }

    fn elements<'a>(&mut self, command: u16, set: &str, elements: impl Iterator<Item = &'a Element>) {
        let mut elements = elements.peekable();
        let with_data = command == NEWSETELEM;
        while elements.peek().is_some() {
            let mut message = self.message(command, if with_data { NLM_F_CREATE } else { 0 });
            message.put_str(2, set);
            message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
                let start = m.len();
                while m.len() - start < ELEMENT_BYTES {
                    let Some(element) = elements.next() else { break };
                    write_element(m, element, with_data);
                }
            });
            self.messages.push(message);
        }
    }

    /// Adds elements to a set or map.
    pub(crate) fn add_elements<'a>(&mut self, set: &str, elements: impl Iterator<Item = &'a Element>) {
        self.elements(NEWSETELEM, set, elements);
    }

    /// Removes elements from a set or map.
    pub(crate) fn delete_elements<'a>(&mut self, set: &str, elements: impl Iterator<Item = &'a Element>) {
        self.elements(DELSETELEM, set, elements);
    }
}

fn write_value(message: &mut Message, kind: u16, key: &Key) {
    message.nest(kind, |m| {
        m.put(NFTA_DATA_VALUE, &key.0);
    });
}

fn write_element(message: &mut Message, element: &Element, with_data: bool) {
    message.nest(NFTA_LIST_ELEM, |m| {
        write_value(m, NFTA_SET_ELEM_KEY, &element.key);
        if let Some(end) = &element.end {
            write_value(m, NFTA_SET_ELEM_KEY_END, end);
        }
        match &element.data {
            Data::Value(value) if with_data => write_value(m, NFTA_SET_ELEM_DATA, value),
            Data::Verdict(verdict) if with_data => {
                m.nest(NFTA_SET_ELEM_DATA, |m| verdict.write(m));
            }
            _ => {}
        }
        if let Some((whole, left)) = element.life.filter(|_| with_data) {
            m.put(NFTA_SET_ELEM_TIMEOUT, &whole.to_be_bytes());
            m.put(NFTA_SET_ELEM_EXPIRATION, &left.min(whole).to_be_bytes());
        }
    });
}

/// nftables requests in one network namespace.
pub(crate) struct NftSocket {
    socket: Socket,
}

// === impl NftSocket ===

impl NftSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(NetlinkProtocol::Netfilter)? })
    }

    /// Commits a batch.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let frame = |kind| {
            let [high, low] = SUBSYSTEM.to_be_bytes();
            let mut message = Message::new(kind, 0, &[0, 0, high, low]);
            message.add_flags(1);
            message
        };
        self.socket.batch(frame(BATCH_BEGIN), batch.messages, frame(BATCH_END))
    }

    /// Removes a table; one that is gone already is fine.
    pub(crate) fn delete_table(&mut self, table: &str) -> Result<(), NetlinkError> {
        // Made first, so that its removal cannot fail for want of it.
        let mut batch = Batch::new(table);
        batch.add_table();
        batch.delete_table();
        self.commit(batch)
    }

    /// Chains on the forward hook, of any table, whose policy is to drop: family, table and name.
    pub(crate) fn dropping_forward_chains(&mut self) -> Result<Vec<String>, NetlinkError> {
        let message = Message::new(SUBSYSTEM << 8 | GETCHAIN, 0, &[0, 0, 0, 0]);
        let number =
            |attributes: Attributes<'_>, kind| attributes.find(kind)?.first_chunk().map(|b| u32::from_be_bytes(*b));
        let mut chains = Vec::new();
        self.socket.dump(message, |_, body| {
            let Some((family, attributes)) = body.first().zip(body.get(4..)) else { return };
            let attributes = Attributes(attributes);
            // NFTA_CHAIN_HOOK 4 with NFTA_HOOK_HOOKNUM 1 (forward 2), NFTA_CHAIN_POLICY 5 (drop 0)
            let forward = number(attributes.nested(4), 1) == Some(2);
            let family = match i32::from(*family) {
                1 => "inet",
                libc::AF_INET => "ip",
                libc::AF_INET6 => "ip6",
                _ => return,
            };
            if forward && number(attributes, 5) == Some(0) {
                let text = |kind| attributes.text(kind).unwrap_or_default();
                chains.push(format!("{family} {} {}", text(1), text(3)));
            }
        })?;
        Ok(chains)
    }

    /// The elements of a map with values.
    pub(crate) fn elements(&mut self, table: &str, map: &str) -> Result<Vec<Element>, NetlinkError> {
        let mut message = Batch::new(table).message(GETSETELEM, 0);
        message.put_str(2, map);
        let mut elements = Vec::new();
        let value = |element: Attributes<'_>, kind| Some(Key(element.nested(kind).find(NFTA_DATA_VALUE)?.to_vec()));
        self.socket.dump(message, |_, body| {
            let list = Attributes(body.get(4..).unwrap_or_default()).nested(NFTA_SET_ELEM_LIST_ELEMENTS);
            for (_, element) in list {
                let element = Attributes(element);
                if let Some(key) = value(element, NFTA_SET_ELEM_KEY) {
                    let data = value(element, NFTA_SET_ELEM_DATA).map_or(Data::Member, Data::Value);
                    let number = |kind| element.find(kind)?.first_chunk().map(|b| u64::from_be_bytes(*b));
                    let life = number(NFTA_SET_ELEM_TIMEOUT).zip(number(NFTA_SET_ELEM_EXPIRATION));
                    elements.push(Element { key, end: None, data, life });
                }
            }
        })?;
        Ok(elements)
    }
}
