//! What chains and signed heads tell afterwards: an edit, a gap, another order, an end that was cut off, a chain that is gone; and
//! ends that nobody wrote, which a killed process leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{ChainId, Head, Link, LinkHash, SignedHead};
use crate::port::Digest;

/// Something that a trail written by us alone does not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A link is not the one that the next link, or a signed head, was written after.
    Changed {
        /// Which chain.
        chain: ChainId,
        /// Which link.
        sequence: u64,
    },
    /// Links are missing.
    Gap {
        /// Which chain.
        chain: ChainId,
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// A link is there twice, or before one that came earlier.
    OutOfOrder {
        /// Which chain.
        chain: ChainId,
        /// Which link.
        sequence: u64,
    },
    /// A signed head says that there was more.
    CutOff {
        /// Which chain.
        chain: ChainId,
        /// The last link that is there; 0 when none is.
        last: u64,
        /// The last that was signed.
        signed: u64,
    },
    /// A head's signature is not ours.
    Forged {
        /// Whose head.
        chain: ChainId,
    },
    /// Something is no link and no head.
    Unreadable {
        /// Where, and why.
        what: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { chain, sequence } => write!(f, "chain {chain}: link {sequence} was changed"),
            Self::Gap { chain, from, to } if from == to => write!(f, "chain {chain}: link {from} is missing"),
            Self::Gap { chain, from, to } => write!(f, "chain {chain}: links {from} to {to} are missing"),
            Self::OutOfOrder { chain, sequence } => {
                write!(f, "chain {chain}: link {sequence} is there twice or out of order")
            }
            Self::CutOff { chain, last, signed } => {
                write!(f, "chain {chain}: it was signed up to link {signed}, and ends with link {last}")
            }
            Self::Forged { chain } => write!(f, "chain {chain}: the signature of its head is not ours"),
            Self::Unreadable { what } => write!(f, "unreadable: {what}"),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What should not be, in order.
    pub findings: BTreeSet<Finding>,
    /// How many chains were looked at.
    pub chains: usize,
    /// How many links.
    pub links: usize,
    /// How many records.
    pub records: usize,
    /// Chains that nobody ended: their process runs, or was killed, or their end was cut off after the last signed head.
    pub open: BTreeSet<ChainId>,
    /// Chains of which there is no signed head that holds: too young, or of a process that was killed when it was.
    pub unsigned: BTreeSet<ChainId>,
}

/// Takes links and heads as they come, and tells at the end.
pub struct Verifier<'a> {
    digest: &'a dyn Digest,
    chains: BTreeMap<ChainId, Seen>,
    /// How far chains of log lines had come, and by which chain that is said.
    noted: Vec<(ChainId, Head)>,
    report: Report,
}

#[derive(Default)]
struct Seen {
    last: u64,
    hash: Option<LinkHash>,
    ends: bool,
    is_signed: bool,
    /// By sequence, of links that a head may name.
    hashes: BTreeMap<u64, LinkHash>,
}

impl<'a> Verifier<'a> {
    /// Nothing seen yet.
    pub fn new(digest: &'a dyn Digest) -> Self {
        Self { digest, chains: BTreeMap::new(), noted: Vec::new(), report: Report::default() }
    }

    /// What follows is an excerpt, which begins with this link of its chain: what was before is not asked for.
    pub fn begins_with(&mut self, link: &Link) {
        let seen = self.chains.entry(link.chain.clone()).or_default();
        if seen.hash.is_none() {
            seen.last = link.sequence.saturating_sub(1);
            seen.hash = Some(link.previous.clone());
        }
    }

    /// The next link as it is kept. Links of several chains may come mixed, those of one chain in their order.
    pub fn link(&mut self, link: &Link) {
        self.report.links = self.report.links.saturating_add(1);
        self.report.records = self.report.records.saturating_add(link.records.len());
        self.noted.extend(Head::noted_in(link).map(|head| (link.chain.clone(), head)));
        let (chain, sequence) = (link.chain.clone(), link.sequence);
        let seen = self.chains.entry(chain.clone()).or_default();
        if sequence <= seen.last {
            self.report.findings.insert(Finding::OutOfOrder { chain, sequence });
            return;
        }
        let expected = seen.last.saturating_add(1);
        if sequence > expected {
            let to = sequence.saturating_sub(1);
            self.report.findings.insert(Finding::Gap { chain: chain.clone(), from: expected, to });
        } else {
            let none = LinkHash::none();
            if !link.previous.matches(seen.hash.as_ref().unwrap_or(&none)) {
                let sequence = seen.last.max(1);
                self.report.findings.insert(Finding::Changed { chain: chain.clone(), sequence });
            }
        }
        if seen.ends {
            // Nobody writes on after the end.
            self.report.findings.insert(Finding::OutOfOrder { chain, sequence });
        }
        let hash = link.hash(self.digest);
        seen.last = sequence;
        seen.ends = link.ends();
        seen.hashes.insert(sequence, hash.clone());
        seen.hash = Some(hash);
    }

    /// A signed head, after the links of its chain. `holds` is whether its signature is ours.
    pub fn head(&mut self, signed: &SignedHead, holds: bool) {
        let head = &signed.head;
        let chain = head.chain.clone();
        if !holds {
            self.report.findings.insert(Finding::Forged { chain });
            return;
        }
        self.come_so_far(head, true);
    }

    /// A chain had come so far.
    fn come_so_far(&mut self, head: &Head, is_signed: bool) {
        let chain = head.chain.clone();
        let seen = self.chains.get_mut(&chain);
        let last = seen.as_ref().map_or(0, |seen| seen.last);
        if last < head.sequence {
            self.report.findings.insert(Finding::CutOff { chain, last, signed: head.sequence });
        } else if let Some(seen) = seen {
            seen.is_signed |= is_signed;
            if seen.hashes.get(&head.sequence).is_some_and(|hash| !hash.matches(&head.hash)) {
                self.report.findings.insert(Finding::Changed { chain, sequence: head.sequence });
            }
        }
    }

    /// Something that cannot be read.
    pub fn unreadable(&mut self, what: impl Into<String>) {
        self.report.findings.insert(Finding::Unreadable { what: what.into() });
    }

    /// What was found.
    pub fn finish(mut self) -> Report {
        for (by, head) in std::mem::take(&mut self.noted) {
            let is_signed = self.chains.get(&by).is_some_and(|seen| seen.is_signed);
            // Of lines that were not shown nothing is said.
            if self.chains.contains_key(&head.chain) {
                self.come_so_far(&head, is_signed);
            }
        }
        self.report.chains = self.chains.len();
        for (chain, seen) in self.chains {
            if !seen.ends {
                self.report.open.insert(chain.clone());
            }
            if !seen.is_signed {
                self.report.unsigned.insert(chain);
            }
        }
        self.report
    }
}
